"""Engines: what turns a variant of a bundle into answers. One file each; `catalogue` is the list."""
