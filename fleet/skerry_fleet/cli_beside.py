"""What is tried beside what serves: verbs of shadows, leases and measurements, in the tables of `cli_verbs.py`."""

from __future__ import annotations

LISTS: dict[tuple[str, str], tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    ("lease", "list"): ("/leases", ("status",), ("id", "status", "profile", "device", "created_ms", "reason")),
    ("measurements", "list"): (
        "/measurements",
        ("profile", "device", "source", "lease"),
        ("id", "profile", "device", "candidate", "outcome", "latency_p50_ms", "latency_p99_ms", "speed", "received_ms"),
    ),
    ("shadow", "samples"): ("/shadows/{shadow}/samples", (), ("id", "device", "received_ms", "prediction")),
}
CALLS: dict[tuple[str, str], tuple[str, str, tuple[str, ...]]] = {
    ("lease", "show"): ("GET", "/leases/{lease}", ()),
    ("lease", "cancel"): ("POST", "/leases/{lease}/cancel", ("reason",)),
    ("measurements", "show"): ("GET", "/measurements/{measurement}", ()),
    ("shadow", "show"): ("GET", "/shadows/{shadow}", ()),
    ("shadow", "end"): ("POST", "/shadows/{shadow}/end", ("reason",)),
}
