"""Samples and sketches as Parquet segments with a SQLite catalogue: each message once, each tensor once."""
