"""What brokers that others run ask over HTTP: a certificate for their key, and the list of revoked ones."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Depends, Request, Response

from skerry_contracts import codec
from skerry_fleet.auth import BrokerGuard
from skerry_fleet.broker.launch import PROBE
from skerry_fleet.config import EXTERNAL, addresses
from skerry_fleet.errors import ConflictError, InputError
from skerry_fleet.routes.common import FleetPart, body, reply
from skerry_fleet.trust.errors import TrustError

router = APIRouter()
FromBroker = Annotated[str, Depends(BrokerGuard())]


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerJoinRequest:
    """Which shard a broker is, and a certificate request (PEM) of which the public key is taken."""

    shard: int
    csr_pem: str


@router.post("/broker/v1/join")
def join(
    fleet: FleetPart, broker: FromBroker, request: Annotated[BrokerJoinRequest, Depends(body(BrokerJoinRequest))]
) -> Response:
    """A broker's key in; a certificate for its shard's hosts in `broker_urls` out, and one to ask itself with."""
    config = fleet.config
    if config.broker != EXTERNAL:
        raise ConflictError("this fleet runs its own broker", hint="set broker = external")
    lists = [each for each in (addresses(config.broker_urls), addresses(config.broker_inner_urls)) if each]
    if not 0 <= request.shard < config.shards:
        raise InputError(f"no shard {request.shard}: there are {config.shards}", hint="name it in broker_urls first")
    hosts = [each[request.shard][0] for each in lists]
    authority = fleet.office.authority
    try:
        certificate, probe = authority.issue_broker(request.csr_pem, hosts, PROBE, fleet.clock())
    except TrustError as error:
        raise InputError(str(error), hint=error.hint) from error
    return reply({"certificate_pem": certificate, "probe_pem": probe, "ca_pem": authority.certificate_pem})


@router.get("/broker/v1/revoked.crl")
def revoked(fleet: FleetPart, request: Request) -> Response:
    """The list of revoked certificates (RFC 5280, DER), signed by the fleet."""
    serials = fleet.revoked()
    tag = f'"{codec.digest(" ".join(map(str, sorted(serials))).encode())[:32]}"'
    if request.headers.get("if-none-match") == tag:
        return Response(None, 304, {"etag": tag})
    pem = fleet.office.authority.revocation_list(serials, fleet.clock())
    der = x509.load_pem_x509_crl(pem.encode()).public_bytes(Encoding.DER)
    return Response(der, headers={"etag": tag}, media_type="application/pkix-crl")
