"""One DAG per valid beamtime of the registry; registry_errors.py speaks of the others."""

from airflow.sdk import get_parsing_context

from beamferry.airflow.dag import beamtime_dag, registry

known = registry()
wanted = get_parsing_context().dag_id

if known.site is not None:
    for beamtime in known.beamtimes:
        # A task needs its own DAG alone: with hundreds of beamtimes this saves seconds at each start.
        if not beamtime.archived and wanted in {None, beamtime.dag_id}:
            beamtime_dag(beamtime, known.site)
