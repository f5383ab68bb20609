"""Certificates that live for seconds: a device renews its own in time, over and over, and stays reachable."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from skerry_simulators.demo import street as parts
from skerry_simulators.demo.processes import Children, wait_for
from skerry_simulators.demo.street import Street


def serial(street: Street, device: str) -> int:
    pem = (street.sockets[device].parent.parent / "identity" / "device.pem").read_bytes()
    return x509.load_pem_x509_certificates(pem)[0].serial_number


def test_certificate_renewal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKERRY_FLEET_CERTIFICATE_DAYS", str(20 / 86400))
    monkeypatch.setenv("SKERRY_AGENT_RENEWAL_CHECK_S", "2")
    monkeypatch.setenv("SKERRY_AGENT_LINK_RETRY_MAX_S", "1")
    street = Street(tmp_path, Children(tmp_path / "logs"))
    try:
        parts.start_fleet(street)
        parts.start_devices(street, 1)
        device = next(iter(street.sockets))
        seen = {serial(street, device)}

        def renewed_thrice() -> bool | None:
            seen.add(serial(street, device))
            return len(seen) >= 4 or None

        wait_for("three renewals", renewed_thrice, street.children, 150.0)
        wait_for("online", lambda: street.ask(f"/devices/{device}")["online"] or None, street.children, 60.0)
        told = street.ask("/audit?limit=100")["items"]
        assert sum(each["action"] == "device.renew" for each in told) >= 3
        assert street.fleet("audit", "verify")["broken_at"] is None
    finally:
        street.children.stop()
