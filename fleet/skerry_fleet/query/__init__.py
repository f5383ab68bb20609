"""Which devices are meant: a small language over what the fleet knows of them, read to a tree and made to bound SQL."""
