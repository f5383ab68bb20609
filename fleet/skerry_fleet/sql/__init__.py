"""What differs between the databases the fleet runs on: one file each, behind one protocol (`dialect.py`)."""
