"""Debian packages and wheels of any architecture, fetched and unpacked without root: what boards and images are of."""
