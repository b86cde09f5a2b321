"""Every morning: who has to be told of which deadline; and twice an hour, what could not be told at once."""

from beamferry.airflow.dag import registry
from beamferry.airflow.deadlines_dag import again_dag, deadlines_dag, rehearsal_dag

known = registry()

if known.site is not None:
    deadlines_dag(known, known.site)
    again_dag(known, known.site)
    rehearsal_dag(known, known.site)
