"""Fifty thousand devices on two cores: a real broker and a real fleet, and devices that are a descriptor and a list."""
