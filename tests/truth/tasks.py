"""What Airflow does with a beamtime's tasks, without Airflow: the one place that knows how the chain is called.

The tasks are those of the DAG. Each is executed as a worker does it; where it defers, the job on RDS-SSH is waited for
as the triggerer does, and the task is called again by the method that it named. All that is put in Airflow's place is
its store of asset state and XComs, and the connection to RDS-SSH (see shortcuts).
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from one_run import Kill, OneRun, Said
from servers import ACCOUNT, ADDRESS, PASSWORD
from stand_ins import Hook, Store, quiet

from beamferry import rsync
from beamferry.airflow import state as asset_state
from beamferry.airflow.task import BeamtimeTask
from beamferry.beamtime import Level, Site
from beamferry.errors import BeamferryError
from beamferry.facilities.desy import DesyBeamtime
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.remote import JOBS
from beamferry.verification import safe

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from servers import Servers

    from beamferry.beamtime import Beamtime

# Ranges begin at 32 MiB: so small a tree would never have one.
RANGE_THRESHOLD = 256 * 1024


class Chain:
    """The chain of a beamtime's tasks over servers that are up.

    Args:
        servers: RDS-SSH and the facilities.
        patch: puts our store and connection in the place of Airflow's.
    """

    def __init__(self, servers: Servers, patch: pytest.MonkeyPatch) -> None:
        self.servers = servers
        self.facts: dict[str, Any] = {}
        hook = Hook(servers.client)
        patch.setattr(BeamtimeTask, "rds_hook", hook)
        # Whoever reads a test's output wants the sequence, not what each task tells.
        patch.setattr(BeamtimeTask, "log", quiet(), raising=False)
        patch.setattr(asset_state, "AssetStateStoreAccessor", Store)
        patch.setattr(rsync, "RANGE_THRESHOLD", RANGE_THRESHOLD)
        patch.setenv("AIRFLOW_CONN_DESY", json.dumps({"conn_type": "generic", "password": PASSWORD}))

    # --- entries ----------------------------------------------------------------------------------------------

    def entry(self, kind: str, number: int, source: Path, destination: Path, **further: Any) -> Beamtime:
        """Return a beamtime's entry.

        Args:
            kind: rsync, ftps or sftp.
            number: of the sequence; no two have the same.
            source: folder at the facility.
            destination: folder on RDS.
            further: fields of the entry.
        """
        usual: dict[str, Any] = {
            "instrument": "i12",
            "ended": date(2021, 5, 3),
            "destination": str(destination),
        }
        if kind == "rsync":
            diamond = {
                "id": f"mg{number}-1",
                "facility": "diamond",
                "account": self.servers.diamond.account,
                "source": str(source),
            }
            return DiamondBeamtime(**usual | diamond | further)
        desy = {"id": f"{20_000_000 + number}", "facility": "desy"}
        if kind == "sftp":
            over = {"transport": "sftp", "account": self.servers.desy.account, "source": str(source)}
        else:
            ftps = self.servers.ftps
            over = {
                "transport": "ftps",
                "account": ACCOUNT,
                "registered": datetime.now(UTC).date(),
                "connection": "desy",
                "server": ADDRESS,
                "port": ftps.port if ftps else None,
                "ca_file": str(self.servers.authority.ca_file),
                "source": f"/{source.relative_to(self.servers.sources)}",
            }
        return DesyBeamtime(**usual | desy | over | further)

    # --- runs -------------------------------------------------------------------------------------------------

    def run(
        self,
        beamtime: Beamtime,
        site: Site,
        *,
        run_id: str,
        mode: str,
        level: Level,
        samples: int,
        streams: int,
        order: Callable[[list[str]], list[str]] = list,
        between: Callable[[str], None] = lambda _: None,
        kill: Kill | None = None,
    ) -> Said:
        """Do what Airflow does in one run of a beamtime's DAG.

        Args:
            beamtime: its entry.
            site: the group's own side.
            run_id: chooses the samples, as it does in Airflow.
            mode: ``sync`` or ``verify only``.
            level: how thoroughly to verify.
            samples: files compared at level sampled.
            streams: connections at the same time.
            order: in which order folders are fetched, where the transfer is one job for each.
            between: called before each task with its name.
            kill: what to kill, and when.
        """
        run = OneRun(self, beamtime, site, run_id, kill)
        if self.servers.agent is not None:
            self.servers.agent.started_each_time(kill is not None)
        run.context["params"] = {
            "mode": mode,
            "require_approval": False,
            "verification": level.value,
            "samples": samples,
            "streams": streams,
            "bandwidth_limit": None,
            "manifest": False,
            "accept_smaller_source": True,
        }
        try:
            for name, task in run.tasks(mode, order):
                between(name)
                run.execute(name, task)
        except BeamferryError as error:
            if error.code not in {"not-verified", "source-changing"} or run.part != "certify":
                return Said(False, None, error=error.code, part=run.part, sentence=str(error))
        return run.said()

    # --- what lies on RDS-SSH ---------------------------------------------------------------------------------

    def jobs(self, beamtime: Beamtime) -> Path:
        """Folder with all that RDS-SSH knows of a beamtime's jobs."""
        return self.servers.home / JOBS / beamtime.key

    def processes(self, beamtime: Beamtime) -> list[psutil.Process]:
        """Everything that a beamtime's jobs have left running on RDS-SSH."""
        marks = (f"{JOBS}/{beamtime.key}/".encode(), f"{JOBS}/{beamtime.key}\0".encode())
        home = f"HOME={self.servers.home}\0".encode()
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                place = Path(f"/proc/{process.pid}")
                environment = (place / "environ").read_bytes()
                words = (place / "cmdline").read_bytes()
                if home in environment and any(mark in environment or mark in words for mark in marks):
                    found.append(process)
        return found

    def end(self, beamtime: Beamtime) -> None:
        """End what runs of this beamtime, so that the next sequence begins with nothing."""
        for _ in range(20):
            left = [
                process for process in self.processes(beamtime) if process.status() != psutil.STATUS_ZOMBIE
            ]
            if not left:
                return
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(0.02)


def shown(path: bytes) -> str:
    """Return a path as verdicts and certificates name it."""
    return safe(os.fsdecode(path))


def site_of(share: Path) -> Site:
    """Return the group's own side."""
    return Site(destination_root=str(share))
