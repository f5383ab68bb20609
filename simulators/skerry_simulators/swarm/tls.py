"""Simulated devices with real certificates: enrolled over HTTP by claim and certificate request, a key each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skerry_contracts import codec
from skerry_fleet import placement, swarm
from skerry_simulators.catalogue import HARDWARE, TENANT
from skerry_simulators.swarm.ground import Ground


def enrol(ground: Ground, folder: Path, devices: int, say: Callable[[str], None]) -> tuple[str, list[int]]:
    """Enrol devices and keep their keys in `folder`; return it, and the port of each shard."""
    folder.mkdir(mode=0o700)
    ports = [0] * ground.shards
    with ground.client() as client:
        (folder / "ca.crt").write_text(client.call("GET", "/device/v1/trust")["ca_pem"], "ascii")
        token = client.call("POST", "/api/v1/claims", json={"uses": devices})["token"]
        _, claim, secret, _ = token.split(".")
        for number in range(devices):
            if number % 100 == 0:
                say(f"{number:,} of {devices:,} devices are enrolled")
            name = swarm.device_name(number)
            key = ec.generate_private_key(ec.SECP256R1())
            body = {"claim": claim, "secret": secret, "csr_pem": _request(key), "device": name}
            answer = client.call("POST", "/device/v1/enrol", json={**body, "hardware": codec.to_plain(HARDWARE)})
            ports[placement.choose(TENANT, name, ground.shards)] = answer["broker_port"]
            (folder / f"{number}.crt").write_text(answer["certificate_pem"], "ascii")
            (folder / f"{number}.key").write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
    return str(folder), ports


def _request(key: ec.EllipticCurvePrivateKey) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()
