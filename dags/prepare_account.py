"""By hand: prepare a person's account on RDS-SSH or iCSF."""

from beamferry.airflow.account_dag import prepare_account_dag
from beamferry.airflow.dag import registry

known = registry()

if known.site is not None:
    prepare_account_dag(known, known.site)
