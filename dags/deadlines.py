"""Every morning: who has to be told of which deadline."""

from beamferry.airflow.dag import registry
from beamferry.airflow.deadlines_dag import deadlines_dag, rehearsal_dag

known = registry()

if known.site is not None:
    deadlines_dag(known, known.site)
    rehearsal_dag(known, known.site)
