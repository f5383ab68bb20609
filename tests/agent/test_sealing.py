"""Sealed samples: another library opens them with the private key; nobody without it, and never plain instead."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.agent.world import World, make_bundle

from skerry_agent import sealing
from skerry_agent.config import AgentConfig, load
from skerry_agent.errors import ConfigError, RequestError
from skerry_agent.hooks import CaptureOrder
from skerry_agent.ledger import SqliteLedger
from skerry_contracts import codec
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.sealed import SealKey, aad, unpack

OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = SealKey(PRIVATE.public_key().public_numbers().n.to_bytes(256, "big"))
needs_library = pytest.mark.skipif(sealing.cipher() is None, reason="this Python carries its OpenSSL inside itself")


@needs_library
@pytest.mark.parametrize("size", [0, 1, 15, 16, 1000, 150_000])
def test_the_cipher_is_the_standards(size: int) -> None:
    aes = sealing.cipher()
    assert aes is not None
    key, nonce, plain, bound = os.urandom(32), os.urandom(12), os.urandom(size), os.urandom(size % 40)
    assert aes.encrypt(key, nonce, plain, bound) == AESGCM(key).encrypt(nonce, plain, bound)


@pytest.mark.parametrize("bits", [2048, 3072])
def test_the_wrapping_is_the_standards(bits: int) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    key = SealKey(private.public_key().public_numbers().n.to_bytes(bits // 8, "big"))
    for _ in range(20):
        message = os.urandom(32)
        assert private.decrypt(sealing.wrap(key, message, os.urandom(32)), OAEP) == message


def world_with(tmp_path: Path, policy: SamplingPolicy, *, encrypt: bool = False) -> World:
    tmp_path.mkdir(exist_ok=True)
    ledger = SqliteLedger(tmp_path / "state.db")
    config = AgentConfig(root=tmp_path, reserve_free_bytes=0, encrypt=encrypt)
    world = World(tmp_path, config=config, ledger=ledger)
    world.assign(make_bundle(), sampling=policy)
    world.settle()
    return world


def samples(world: World) -> list[Sample]:
    world.connect()
    world.pass_s(1.0)
    return [codec.decode(Sample, each.payload) for each in world.published if each.channel == "sample"]


@needs_library
def test_what_lies_on_the_disk_opens_with_the_private_key_alone(tmp_path: Path) -> None:
    world = world_with(tmp_path, SamplingPolicy(1.0, seal=PUBLIC), encrypt=True)
    for _ in range(sealing.RENEW + 20):
        world.predict()
    world.pass_s(1.0)
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
    assert b'"sealed"' in raw and b'"inputs":[]' in raw and b'"inputs":[{' not in raw
    found: list[Sample] = []
    while len(found) < sealing.RENEW + 20:
        found += samples(world)
        world.ack_all()
        world.published = []
    assert len({each.sealed.key for each in found if each.sealed}) == 2
    nonces = {(each.sealed.key, each.sealed.nonce) for each in found if each.sealed}
    assert len(nonces) == len({each.prediction for each in found})
    sample = found[0]
    assert sample.sealed is not None and sample.sealed.keyid == PUBLIC.keyid and not sample.inputs
    key = PRIVATE.decrypt(sample.sealed.key, OAEP)
    opened = AESGCM(key).decrypt(sample.sealed.nonce, sample.sealed.data, aad(sample.prediction, sample.bundle))
    inputs, outputs = unpack(opened)
    assert [each.name for each in (*inputs, *outputs)] == ["image", "scores"]
    with pytest.raises(InvalidTag):
        AESGCM(key).decrypt(sample.sealed.nonce, sample.sealed.data, aad("d1/00000001-00000000/9", sample.bundle))
    assert not world.core.degraded


def test_without_a_key_nothing_is_kept_rather_than_plainly(tmp_path: Path) -> None:
    world = world_with(tmp_path, SamplingPolicy(1.0), encrypt=True)
    world.predict()
    assert samples(world) == []
    assert "names no key" in world.core.degraded["sealing digits"]


def test_without_a_library_nothing_is_kept_rather_than_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "cipher", lambda: None)
    world = world_with(tmp_path, SamplingPolicy(1.0, seal=PUBLIC))
    world.predict()
    assert samples(world) == [] and "OpenSSL" in world.core.degraded["sealing digits"]


@needs_library
def test_a_cipher_that_fails_loses_the_sample_and_counts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_with(tmp_path, SamplingPolicy(1.0, seal=PUBLIC))

    def fail(*_: object) -> bytes:
        raise OSError("no")

    monkeypatch.setattr(sealing.Aes256Gcm, "encrypt", fail)
    dropped = world.core.spool.health.dropped
    world.predict()
    assert samples(world) == [] and world.core.spool.health.dropped == dropped + 1


def test_the_same_chance_gives_the_same_seal() -> None:
    aes = sealing.cipher()
    if aes is None:
        pytest.skip("no library")
    prediction = "d1/00000001-00000000/1"
    sample = Sample("00000001-00000000", 1, 0.0, prediction, "m", "1", "a" * 64, "v", Kept.RANDOM, 1.0, (), ())
    first, second = (sealing.Sealer(PUBLIC, aes, random.Random(1)).seal(sample) for _ in range(2))
    assert first == second and first.sealed is not None


@pytest.mark.parametrize(("text", "found"), [("encrypt = true", True), ("encrypt = false", False), ("", False)])
def test_the_setting(text: str, found: bool) -> None:
    assert load(text, {}, {}).encrypt is found
    assert load("", {"SKERRY_AGENT_ENCRYPT": "true"}, {}).encrypt
    with pytest.raises(ConfigError, match="encrypt"):
        load('encrypt = "maybe"', {}, {})


@needs_library
def test_a_capture_is_sealed_too_and_refused_where_it_cannot_be(tmp_path: Path) -> None:
    order = CaptureOrder(id="defect-1", model="digits", inputs=(), outputs=(), prediction=None, time_s=None)
    world = world_with(tmp_path, SamplingPolicy(0.0, 0.0, seal=PUBLIC), encrypt=True)
    world.do(world.core.capture(order))
    (sample,) = samples(world)
    assert sample.sealed is not None and sample.capture == "defect-1"
    world = world_with(tmp_path / "other", SamplingPolicy(0.0, 0.0), encrypt=True)
    with pytest.raises(RequestError, match="names no key"):
        world.core.capture(order)
