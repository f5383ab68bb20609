"""Telemetry that came by file: the same ingest as over the link, and an acknowledgement that is carried back.

The link knows its sender by the certificate of the connection; a file is known by the signature of the device's key on
every part. What is acknowledged is committed, here as there.
"""

from __future__ import annotations

import logging
from typing import Any

from skerry_contracts import codec, topics
from skerry_contracts.assignment import Envelope
from skerry_contracts.carried import CARRIED_TYPE, Carried, CarriedAck
from skerry_contracts.device import Ack
from skerry_contracts.errors import ContractError
from skerry_fleet import devices, renewal
from skerry_fleet.errors import InputError
from skerry_fleet.fleet import Fleet, receipt_checker
from skerry_fleet.ingest import IngestCore
from skerry_fleet.ingest_store import SqlIngestStore
from skerry_fleet.trust import signing
from skerry_fleet.trust.errors import TrustError

log = logging.getLogger(__name__)


def take_in(fleet: Fleet, tenant: str, part: bytes) -> dict[str, Any]:
    """Commit one part of what a device handed out; return counts and the signed acknowledgement. The same part again
    stores nothing new, and is acknowledged again.

    Raises:
        InputError: no such part, or not signed by the device that it names.
        MissingError: that device is not of this tenant, or was decommissioned.
    """
    said = _verified(fleet, tenant, part)
    core = IngestCore(_store(fleet), receipt_checker(fleet.database), carried=True)
    now = fleet.clock()
    refused = 0
    for message in said.messages:
        refused += not core.accept(topics.topic(tenant, said.device, message.channel), message.payload, now)
    committed = core.commit()
    fleet.metrics.committed(committed)
    if "progress" in committed.channels:
        try:
            with fleet.rollouts.open() as session:
                fleet.rollouts.observe(session, now, (), ())
        except Exception:  # committed is committed and is acknowledged; progress is read again later
            log.exception("rollouts could not take in a carried file")
    received = tuple(each for _, payload in committed.acks for each in codec.decode(Ack, payload).received)
    ack = CarriedAck(tenant, said.device, said.part, said.last, received)
    return {
        "device": said.device,
        "messages": len(said.messages),
        "refused": refused,
        "acknowledged": sum(len(each.seqs) for each in received),
        "ack": fleet.office.director.sign_ack(ack).decode(),
    }


def _store(fleet: Fleet) -> SqlIngestStore:
    return SqlIngestStore(fleet.database, fleet.config.dead_letters, fleet.config.tenant)


def _verified(fleet: Fleet, tenant: str, part: bytes) -> Carried:
    """Return what a part says, if the device that it names signed it; an old or a renewed key are both its own."""
    try:
        envelope = codec.decode(Envelope, part)
        named = codec.decode(Carried, envelope.payload)
        if named.tenant != tenant:
            raise InputError(f"these are messages of tenant {named.tenant}", hint="import them into its own fleet")
        with fleet.database.read() as session:
            known = renewal.certificates(devices.get(session, tenant, named.device))
        signing.verify(envelope, CARRIED_TYPE, [signing.certificate_key(each) for each in known])
    except ContractError as error:
        raise InputError(f"not a carried file: {error}", hint="make it with skerry agent carry-out") from error
    except TrustError as error:
        hint = "make the file again on the device; one that was enrolled anew has another key"
        raise InputError(f"not signed by {named.device}: {error}", hint=hint) from error
    return named
