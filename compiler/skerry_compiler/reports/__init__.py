"""What a compile and a bench found: as plain data, for a terminal, and as one page to keep."""
