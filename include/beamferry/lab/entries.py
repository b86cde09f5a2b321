"""What Airflow and the registry are told of the lab: the one place that knows their fields."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import yaml

from beamferry.lab import desy_tree, desy_way
from beamferry.lab.settings import DESY_ADDRESS, ENDED, INSTRUMENT, VISIT

if TYPE_CHECKING:
    from beamferry.lab.lab import Lab


def connections(lab: Lab) -> dict[str, dict[str, Any]]:
    """Return the connections, by id, as ``AIRFLOW_CONN_<ID>`` takes them in JSON."""
    found: dict[str, dict[str, Any]] = {
        "rds_ssh": {
            "conn_type": "ssh",
            "host": lab.rds.address,
            "port": lab.rds.port,
            "login": lab.rds.account,
            "extra": {"key_file": str(lab.client.key), "host_key": lab.client.pinned},
        },
        "smtp_default": lab.mail.connection,
    }
    if lab.settings.desy:
        found["desy_ftps"] = {
            "conn_type": "ftp",
            # Without file systems of their own, RDS-SSH cannot know DESY's name; the certificate has both.
            "host": lab.desy.name if lab.settings.namespaces else DESY_ADDRESS,
            "login": lab.desy.account,
            "password": lab.desy.password,
            "port": lab.desy.ftps.port,
        }
    return found


def registry_text(lab: Lab, ended: date = ENDED, *, desy: str | None = None, **further: Any) -> str:
    """Return the registry; see ``Lab.registry_text``."""
    site = {
        "rds_connection": "rds_ssh",
        "destination_root": lab.destination_root,
        "notify": ["group-data@example.ac.uk"],
    }
    entry: dict[str, Any] = {
        "id": VISIT,
        "facility": "diamond",
        "instrument": INSTRUMENT,
        "account": lab.account,
        "ended": ended,
    }
    if lab.source != f"/dls/{INSTRUMENT}/data/{ended.year}/{VISIT}":
        entry["source"] = lab.source
    beamtimes = [entry | further]
    if desy:
        beamtimes.append(desy_entry(lab, desy, ended))
    return yaml.safe_dump({"site": site, "beamtimes": beamtimes}, sort_keys=False, width=1000)


def desy_entry(lab: Lab, transport: str, ended: date) -> dict[str, Any]:
    """Return the registry's entry of the beamtime at DESY by ``ftps``, registered today, or by ``sftp``."""
    found: dict[str, Any] = {
        "id": lab.desy.beamtime,
        "facility": "desy",
        "instrument": lab.desy.instrument,
        "account": lab.desy.account if transport == "ftps" else lab.desy.sftp.account,
        # A day of its own: YAML would write the same one as a reference.
        "ended": ended.replace(),
        "transport": transport,
        # What nobody may read cannot come home.
        "exclude": [desy_tree.UNREADABLE.decode()],
    }
    if transport == "ftps":
        found["registered"] = datetime.now(UTC).date()
        found["ca_file"] = desy_way.ca_file(lab.rds)
        found["connection"] = "desy_ftps"
        found["port"] = lab.desy.ftps.port
        if not lab.settings.namespaces:
            found["server"] = DESY_ADDRESS
    return found
