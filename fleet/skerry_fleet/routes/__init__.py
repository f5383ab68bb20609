"""Thin routes: read the request, call a service in one transaction, answer."""
