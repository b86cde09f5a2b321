"""Beamferry brings synchrotron beamtimes home.

The data's way through the package, in order: ``registry`` reads the entries into ``beamtime`` models,
``facilities`` adds what is particular to each; ``access`` says whether a transfer can begin; ``rsync`` builds
the commands, ``rsync_output`` and ``complaints`` read what they print; ``plan`` turns a dry run into what is to
do; ``remote`` runs the jobs on RDS-SSH; ``census``, ``differences`` and ``verification`` compare both ends;
``certificate`` writes down the result. ``airflow`` strings these together, ``lab`` is a whole facility on one
machine to try them on, ``stack`` and ``demo`` run Airflow there.
"""
