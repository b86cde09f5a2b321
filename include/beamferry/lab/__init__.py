"""The embedded lab: RDS-SSH, Diamond and a mail server on loopback, a made-up visit and faults on demand.

``Lab(folder).up()`` starts it, ``Faults(lab)`` breaks it in ways that can be undone, ``down()`` stops it. It
needs no privilege and changes nothing on the machine. Where the machine allows namespaces, each host sees a
root of its own with the real names (``/dls/i12/data/2021/mg25682-2``, ``/mnt/eps01-rds/...``); else the same
folders lie under the lab's own, ``status`` says so, and the lab's registry names them.
"""

from __future__ import annotations

from beamferry.lab.faults import Faults
from beamferry.lab.lab import Lab
from beamferry.lab.visit import must_arrive

__all__ = ["Faults", "Lab", "must_arrive"]
