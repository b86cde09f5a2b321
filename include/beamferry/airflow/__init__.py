"""Airflow around it: the chain of a beamtime, its operators and triggers, and what is kept of each beamtime."""
