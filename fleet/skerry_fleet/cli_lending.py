"""The verbs of `skerry fleet lease` and `measurements`, in the tables of `cli_verbs.py`."""

from __future__ import annotations

LISTS: dict[tuple[str, str], tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    ("lease", "list"): ("/leases", ("status",), ("id", "status", "profile", "device", "created_ms", "reason")),
    ("measurements", "list"): (
        "/measurements",
        ("profile", "device", "source", "lease"),
        ("id", "profile", "device", "candidate", "outcome", "latency_p50_ms", "latency_p99_ms", "speed", "received_ms"),
    ),
}
CALLS: dict[tuple[str, str], tuple[str, str, tuple[str, ...]]] = {
    ("lease", "show"): ("GET", "/leases/{lease}", ()),
    ("lease", "cancel"): ("POST", "/leases/{lease}/cancel", ("reason",)),
    ("measurements", "show"): ("GET", "/measurements/{measurement}", ()),
}
