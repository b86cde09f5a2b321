"""The tasks of a beamtime's chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pendulum
from airflow.providers.ssh.operators.ssh import SSHOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator

from beamferry import access, census, rsync
from beamferry.airflow.jobs import Outcome, RemoteJobOperator
from beamferry.airflow.task import BeamtimeTask
from beamferry.certificate import Certificate, certificate_folder
from beamferry.errors import PermanentError
from beamferry.plan import TransferPlan, make_plan, sentence, table
from beamferry.remote import Job, script_command
from beamferry.rsync_output import interpret_exit, parse_stats
from beamferry.verification import Verdict, compare

if TYPE_CHECKING:
    from airflow.sdk import Context

    from beamferry.remote import Session
