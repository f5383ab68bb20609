"""Bundles for browsers as web packages: a folder that a web developer serves, and its check in a headless browser."""
