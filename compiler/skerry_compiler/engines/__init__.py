"""Engines: what a candidate is made of. One file or package each."""
