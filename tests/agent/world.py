"""A small world for the core: bundles, an assignment, and something that carries out effects, on a real disk."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Sequence
from pathlib import Path

from skerry_agent import effects
from skerry_agent.config import AgentConfig
from skerry_agent.core import DeviceCore
from skerry_agent.disk import Disk, RealDisk
from skerry_agent.effects import Effect, Publish
from skerry_agent.hooks import Prediction
from skerry_agent.ledger import Ledger, SqliteLedger
from skerry_agent.records import Measured
from skerry_agent.store import Store
from skerry_contracts import codec
from skerry_contracts.assignment import (
    ASSIGNMENT_TYPE,
    RECEIPT_TYPE,
    AssignedModel,
    Assignment,
    Envelope,
    SamplingPolicy,
    Window,
    target_path,
)
from skerry_contracts.bundle import Baseline, Blob, Contract, Golden, Manifest, Predicates, Recipe, Signature, Variant
from skerry_contracts.device import Ack, Hardware, Progress, Reason, Received
from skerry_contracts.sample import Kept
from skerry_contracts.tensor import DType, Tensor, TensorSpec

NOW_S = 1_800_000_000
HARDWARE = Hardware(
    os="linux",
    machine="x86_64",
    cpu="test",
    cpu_features=("avx2",),
    cores=2,
    memory_bytes=1 << 32,
    libc="glibc",
    libc_version="2.36",
    profile="x86_64",
    agent_version="0",
    engines={"native": "1"},
)


class FakeClock:
    def __init__(self) -> None:
        self.wall, self.monotonic, self.minute = float(NOW_S), 100.0, 720

    def wall_s(self) -> float:
        return self.wall

    def monotonic_s(self) -> float:
        return self.monotonic

    def local_minute(self) -> int:
        return self.minute

    def pass_s(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@dataclasses.dataclass(frozen=True)
class Bundle:
    manifest: Manifest
    data: bytes
    blobs: dict[str, bytes]

    @property
    def id(self) -> str:
        return codec.digest(self.data)


def make_bundle(
    release: int = 1, *, features: tuple[str, ...] = (), library_bytes: int = 300, model: str = "digits"
) -> Bundle:
    library = random.Random(release).randbytes(library_bytes)
    inputs, outputs = bytes(4 * 4 * 2), bytes(4 * 2 * 2)
    blobs = {codec.digest(data): data for data in (library, inputs, outputs)}

    def blob(data: bytes) -> Blob:
        return Blob(codec.digest(data), len(data))

    manifest = Manifest(
        format=1,
        model=model,
        version=f"v{release}",
        release=release,
        target="x86-64",
        signature=Signature(
            (TensorSpec("image", DType.FP32, (1, 4)),),
            (TensorSpec("scores", DType.FP32, (1, 2)),),
            ("a", "b"),
            None,
            "scores",
        ),
        variants=(
            Variant(
                "native-fp32",
                "native",
                "fp32",
                {"library": blob(library)},
                Predicates("linux", "x86_64", features),
                1000,
            ),
        ),
        golden=Golden(2, blob(inputs), blob(outputs), 1e-5, 1e-5, True),
        contract=Contract(),
        baseline=(
            Baseline("input:image:0", (0.25, 0.5), (1, 1, 1)),
            Baseline("input:image:mean", (0.5,), (1, 1)),
            Baseline("input:image:std", (0.5,), (1, 1)),
            Baseline("confidence", (0.5, 0.9), (1, 1, 1)),
            Baseline("label", (0.5,), (1, 1)),
        ),
        recipe=Recipe("0", "0" * 64, "onnx", "x86-64", "0" * 64),
    )
    return Bundle(manifest, codec.encode(manifest), blobs)


def assign(
    *bundles: Bundle,
    sequence: int = 1,
    device: str = "d1",
    tenant: str = "default",
    expires_s: int = NOW_S + 86400,
    downgrade: bool = False,
    window: Window | None = None,
    sampling: SamplingPolicy | None = None,
) -> bytes:
    models = tuple(
        AssignedModel(
            each.manifest.model,
            each.manifest.version,
            each.manifest.release,
            each.id,
            target_path(each.manifest.model, each.id),
            len(each.data),
            "rollout-1",
            downgrade,
            window,
            sampling or SamplingPolicy(),
        )
        for each in bundles
    )
    return codec.encode(Assignment(tenant, device, sequence, NOW_S - 10, expires_s, models))


def envelope(payload: bytes) -> bytes:
    return codec.encode(Envelope(ASSIGNMENT_TYPE, payload, ()))


class World:
    """Carries out what the core asks, at once; `trial` and `network` say how it goes."""

    def __init__(
        self,
        root: Path,
        *,
        ledger: Ledger | None = None,
        disk: Disk | None = None,
        config: AgentConfig | None = None,
        bundles: Sequence[Bundle] = (),
    ) -> None:
        self.clock = FakeClock()
        self.disk = disk or RealDisk(root)
        self.store = Store(self.disk)
        self.store.prepare()
        self.ledger = ledger or SqliteLedger(Path(":memory:"))
        self.config = config or AgentConfig(root=root, reserve_free_bytes=0)
        self.bundles: dict[str, Bundle] = {each.id: each for each in bundles}
        self.serving: dict[str, str] = {}
        self.trial: Reason = Reason.OK
        self.network: Reason = Reason.OK
        self.signature: Reason = Reason.OK
        self.published: list[Publish] = []
        self.done: list[Effect] = []
        self.hold: set[type] = set()  # effects not answered
        self.queue: list[Effect] = []
        self.busy = False
        self.core = self.boot()

    def boot(self) -> DeviceCore:
        self.core = DeviceCore(
            tenant="default",
            device="d1",
            config=self.config,
            ledger=self.ledger,
            store=self.store,
            clock=self.clock,
            rng=random.Random(1),
            hardware=HARDWARE,
        )
        self.serving = {}
        self.do(self.core.boot())
        return self.core

    def add(self, bundle: Bundle) -> Bundle:
        self.bundles[bundle.id] = bundle
        return bundle

    def assign(self, *bundles: Bundle, sequence: int = 1, **more: object) -> None:
        for bundle in bundles:
            self.add(bundle)
        self.down("assignment", envelope(assign(*bundles, sequence=sequence, **more)))  # type: ignore[arg-type]  # passed through

    def down(self, channel: str, payload: bytes) -> None:
        self.do(self.core.message(channel, payload))

    def connect(self) -> None:
        self.core.session()
        self.do(self.core.connected())

    def ack_all(self) -> None:
        keys = [each.key for each in self.published if each.key is not None]
        by_boot: dict[str, list[int]] = {}
        for boot, seq in keys:
            by_boot.setdefault(boot, []).append(seq)
        received = tuple(Received(boot, tuple(seqs)) for boot, seqs in by_boot.items())
        self.down("ack", codec.encode(Ack(received)))

    def pass_s(self, seconds: float) -> None:
        self.clock.pass_s(seconds)
        self.do(self.core.tick())

    def settle(self, seconds: float = 15.0) -> None:
        """Let an observation end."""
        self.pass_s(seconds)

    def predict(
        self,
        model: str = "digits",
        scores: tuple[float, float] = (0.9, 0.1),
        keep: bool = True,
        wanted: Kept | None = None,
    ) -> None:
        image = Tensor("image", DType.FP32, (1, 4), struct.pack("<4f", 0.1, 0.3, 0.6, 1.0))
        answer = Tensor("scores", DType.FP32, (1, 2), struct.pack("<2f", *scores))
        found = Prediction(self.core.next_prediction(model), model, (image,), (answer,), 0.1, keep, wanted=wanted)
        self.do(self.core.on_prediction(found))

    def progress(self) -> list[tuple[str, str]]:
        found = [codec.decode(Progress, each.payload) for each in self.published if each.channel == "progress"]
        return [(each.phase.value, each.reason.value) for each in found]

    def do(self, wishes: list[Effect]) -> None:
        """Carry out effects in the order they were wished, those that answers bring included."""
        self.queue += wishes
        if self.busy:
            return
        self.busy = True
        while self.queue:
            wish = self.queue.pop(0)
            self.done.append(wish)
            if type(wish) not in self.hold:
                self.one(wish)
        self.busy = False

    def one(self, wish: Effect) -> None:
        core = self.core
        match wish:
            case Publish():
                self.published.append(wish)
            case effects.Verify(envelope=data):
                if self.signature == Reason.OK:
                    self.do(core.verified(data, codec.decode(Envelope, data).payload))
                else:
                    self.do(core.unverified(data, self.signature, "no"))
            case effects.FetchManifest(model=model, ticket=ticket, bundle=bundle):
                if self.network != Reason.OK:
                    self.do(core.fetch_failed(model, ticket, self.network, "no"))
                else:
                    self.do(core.manifest(model, ticket, self.bundles[bundle].data, {"timestamp": 1}))
            case effects.FetchBlobs(model=model, ticket=ticket, manifest=data, blobs=blobs):
                content = self.bundles[codec.digest(data)].blobs
                for blob in blobs:
                    self.store.put_blob(content[blob.sha256])
                self.store.put_manifest(data)
                self.do(core.fetched(model, ticket))
            case effects.Trial(model=model, ticket=ticket, variants=variants):
                if self.trial == Reason.OK:
                    self.do(core.trial_passed(model, ticket, Measured(variants[0], 2, 0.1, 0.2, 1000)))
                else:
                    self.do(core.trial_failed(model, ticket, self.trial, "no"))
            case effects.Swap(model=model, bundle=bundle) | effects.Serve(model=model, bundle=bundle):
                self.serving[model] = bundle
            case effects.Stop(model=model):
                self.serving.pop(model, None)
            case effects.Sign(receipt=receipt):
                self.do(core.signed(receipt.model, Envelope(RECEIPT_TYPE, codec.encode(receipt), ())))
            case _:
                pass
