"""The board in Airflow's web interface: its plugin, and an API that only reads."""
