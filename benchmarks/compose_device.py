"""A device of `fleet_compose.py`, run in a container with nothing but the fleet's image: enrols through the proxy,
fetches a blob whole and in part, and sends samples until every one of them is acknowledged.

    python compose_device.py FLEET_URL CLAIM_TOKEN SHA256 SAMPLES
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skerry_contracts import codec, topics
from skerry_contracts.device import Ack, Hardware, Presence
from skerry_contracts.enrolment import EnrolmentRequest
from skerry_contracts.sample import Kept, Sample
from skerry_fleet.mqtt.client import Client, tls_context
from skerry_fleet.mqtt.errors import MqttError
from skerry_fleet.mqtt.packets import Publish, Will

BOOT = "00000001-00000001"
DEADLINE_S = 240.0


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[dict[str, str], bytes]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a trial's own certificate
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, context=context, timeout=20) as answer:
        return {name.lower(): value for name, value in answer.headers.items()}, answer.read()


def enrol(url: str, token: str, folder: Path) -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    _, claim, secret, _ = token.split(".")
    hardware = Hardware("linux", "x86_64", "x", (), 1, 1 << 30, "glibc", "2.36", "x86-64-v3", "0.1.0")
    csr = request.public_bytes(serialization.Encoding.PEM).decode()
    body = codec.encode(EnrolmentRequest(claim, secret, csr, hardware))
    found: dict[str, Any] = json.loads(ask(f"{url}/device/v1/enrol", body, **{"Content-Type": "application/json"})[1])
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key").write_bytes(private)
    (folder / "crt").write_text(found["certificate_pem"])
    (folder / "ca").write_text(json.loads(ask(f"{url}/device/v1/trust")[1])["ca_pem"])
    return found


async def live(me: dict[str, Any], folder: Path, samples: int) -> dict[str, Any]:
    """Send samples, again after each lost connection, until all are acknowledged."""
    acked: set[int] = set()
    connections = 0

    def heard(message: Publish) -> None:
        if message.topic.endswith("/ack"):
            for received in codec.decode(Ack, message.payload).received:
                acked.update(received.seqs)

    device, tenant = me["device"], me["tenant"]
    async with asyncio.timeout(DEADLINE_S):
        while len(acked) < samples:
            try:
                link = await Client.connect(
                    me["broker_host"],
                    me["broker_port"],
                    client_id=f"{tenant}/{device}",
                    on_message=heard,
                    tls=tls_context(*(str(folder / each) for each in ("ca", "crt", "key"))),
                    will=Will(
                        topics.topic(tenant, device, "presence"), codec.encode(Presence(BOOT, 1, False)), 1, False
                    ),
                )
                connections += 1
                await link.subscribe(f"skerry/1/{tenant}/{device}/down/#")
                presence = codec.encode(Presence(BOOT, connections, True))
                await link.publish(topics.topic(tenant, device, "presence"), presence, qos=1)
                for seq in range(1, samples + 1):
                    if seq not in acked:
                        await link.publish(topics.topic(tenant, device, "sample"), sample(device, seq), qos=1)
                        await asyncio.sleep(0.02)
                await asyncio.sleep(1.0)
                await link.disconnect()
            except MqttError:
                await asyncio.sleep(0.5)
    return {"acked": len(acked), "connections": connections}


def sample(device: str, seq: int) -> bytes:
    fields = ("digits", "1", "0" * 64, "v", Kept.RANDOM, 1.0, (), ())
    return codec.encode(Sample(BOOT, seq, 0.0, f"{device}/{BOOT}/{seq}", *fields))


def main(url: str, token: str, sha256: str, samples: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        me = enrol(url, token, folder)
        key = {"Authorization": f"Bearer {me['download_token']}"}
        headers, whole = ask(f"{url}/blobs/{sha256}", None, **key)
        assert codec.digest(whole) == sha256
        _, end = ask(f"{url}/blobs/{sha256}", None, **key, Range=f"bytes={len(whole) - 7}-")
        assert end == whole[-7:]
        said = {"device": me["device"], "broker": f"{me['broker_host']}:{me['broker_port']}"}
        said["blob_served_by"] = headers.get("server", "")
        print(json.dumps(said | asyncio.run(live(me, folder, int(samples)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
