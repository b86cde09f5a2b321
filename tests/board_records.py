"""What Airflow's database holds of many beamtimes, for the tests and figures of the board's API."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from beamferry.plan import deadline

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from beamferry.beamtime import Beamtime
    from beamferry.registry import Registry

BUNDLE = "board-tests"
KINDS = ("safe", "moving", "failed", "new", "differs")


def write_registry(path: Path, count: int) -> None:
    """Write a registry of so many beamtimes that ended within the last month."""
    today = datetime.now(UTC).date()
    entries = "".join(
        f"  - {{id: mg{25000 + number}-1, facility: diamond, instrument: i{number % 30 + 1:02}, "
        f"account: mbcx9cd4, ended: {today - timedelta(days=number % 39)}}}\n"
        for number in range(count)
    )
    path.write_text(f"site:\n  destination_root: /mnt/rds/shared\nbeamtimes:\n{entries}")


def state(beamtime: Beamtime, registry: Registry, kind: str, now: datetime) -> dict[str, Any]:
    """What the asset of a beamtime holds that is safe, moving, failed, differs, or new."""
    if kind == "new":
        return {}
    size, todo = 87_034_154_221, 0 if kind == "safe" else 40_000_000_000
    assert registry.site is not None
    plan = {
        "schema_version": 1,
        "files": 20_412,
        "bytes": size,
        "todo_files": 8_000 if todo else 0,
        "todo_bytes": todo,
        "streams": 4,
        "bytes_free": 1_200_000_000_000,
        "rate": 46_800_000,
        "rate_measured": True,
        "seconds": 855,
        "deadline": deadline(beamtime, registry.site).isoformat(),
        "in_time": True,
        "exclude": ["tmp/"],
        "exclude_count": 1,
        "scope": "0123456789abcdef",
        "made_at": (now - timedelta(hours=2)).isoformat(),
    }
    begun = int(now.timestamp()) - 4800
    moving = {
        "phase": "transfer",
        "bytes_done": 31_000_000_000,
        "bytes_total": todo,
        "files_done": 6_000,
        "files_total": 8_000,
        "rate": 46_000_000,
        "updated": int(now.timestamp()) - 5,
        "part": "transfer",
        "run_id": "scheduled__1",
        "history": [[begun + 100 * step, 645_000_000 * step] for step in range(48)],
    }
    counted = {
        "files": 20_412,
        "bytes": size,
        "folders": 82,
        "links": 7,
        "others": 0,
        "oldest": begun - 86_400 * 3,
    }
    verdict = {
        "schema_version": 1,
        "outcome": "different" if kind == "differs" else "verified",
        "level": "sampled",
        "source": counted,
        "destination": counted,
        "counts": {"missing": 12} if kind == "differs" else {},
        "named": [{"kind": "missing", "path": f"raw/scan_{number:05}.nxs"} for number in range(12)]
        if kind == "differs"
        else [],
        "sampled_files": 32,
        "sampled_bytes": 39_100_000,
        "partial_files": 0,
        "checked_at": (now - timedelta(hours=1)).isoformat(),
        "sentence": "12 files are missing at RDS."
        if kind == "differs"
        else "All 20,412 files (87.0 GB) are at RDS: every size agrees and 32 files were compared.",
    }
    problem = {
        "code": "facility-key-refused",
        "problem": "Diamond refused the key of account mbcx9cd4",
        "remedy": "add ~/.ssh/id_ed25519.pub of RDS-SSH to ~/.ssh/authorized_keys there",
        "task": "verify_access",
        "run_id": "scheduled__1",
        "at": now.isoformat(),
        "since": now.isoformat(),
    }
    rate = {"bytes_per_second": 46_000_000, "bytes": size, "at": (now - timedelta(hours=1.5)).isoformat()}
    issued = {
        "outcome": "verified",
        "folder": f"/mnt/rds/shared/{beamtime.id}.certificate",
        "at": now.isoformat(),
        "run_id": "scheduled__1",
    }
    fetched = {"plan_made_at": plan["made_at"], "run_id": "scheduled__1", "transfers": 2}
    ends = {
        f"fetched/{number}": {"plan_made_at": plan["made_at"], "bytes": 5, "files": 1, "at": now.isoformat()}
        # Another plan took three.
        for number in (range(3) if kind in {"safe", "differs"} else (0,) if kind == "moving" else ())
    }
    found: dict[str, Any] = {"plan": plan, "fetched": fetched} | ends
    job = {"progress": moving, "transfer": moving}
    found |= {"moving": job, "failed": {"problem": problem}}.get(kind, {})
    if kind in {"safe", "differs"}:
        found |= {"verification": verdict, "rate": rate, "certificate": issued} | job
    return found


def fill(session: Session, registry: Registry, now: datetime, kinds: Iterable[str] = KINDS) -> None:
    """Store the beamtimes of a registry as if they had run, the kinds in turn."""
    from airflow.models.asset import AssetModel  # noqa: PLC0415
    from airflow.models.asset_state_store import AssetStateStoreModel  # noqa: PLC0415
    from airflow.models.dag import DagModel  # noqa: PLC0415
    from airflow.models.dagbundle import DagBundleModel  # noqa: PLC0415
    from airflow.models.dagrun import DagRun  # noqa: PLC0415

    turn = list(kinds)
    session.merge(DagBundleModel(name=BUNDLE))
    session.flush()
    for number, beamtime in enumerate(registry.beamtimes):
        kind = turn[number % len(turn)]
        session.add(
            DagModel(
                dag_id=beamtime.dag_id,
                bundle_name=BUNDLE,
                is_paused=False,
                is_stale=False,
                max_active_tasks=16,
                max_consecutive_failed_dag_runs=0,
                has_task_concurrency_limits=False,
            )
        )
        name = beamtime.asset_name
        asset = AssetModel(name=name, uri=f"x-beamferry:{name}", group="beamferry")
        session.add(asset)
        session.flush()
        for key, value in state(beamtime, registry, kind, now).items():
            session.add(AssetStateStoreModel(asset_id=asset.id, key=key, value=json.dumps(value)))
        for run in (0, 1) if kind != "new" else ():
            under_way = run == 1 and kind == "moving"
            session.add(
                DagRun(
                    dag_id=beamtime.dag_id,
                    run_id=f"scheduled__{run}",
                    run_type="scheduled",
                    state="running" if under_way else "failed" if kind == "failed" else "success",
                    logical_date=now - timedelta(days=2 - run),
                    run_after=now - timedelta(days=2 - run),
                    start_date=now - timedelta(days=2 - run),
                )
            )
    session.commit()
