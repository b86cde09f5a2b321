"""What works on RDS-SSH: Python 3.6 or later and its standard library, sent there as one archive."""
