"""Carries out what the core asks, with child processes, workers and the link, and brings the answers back to the core.

Whatever concerns one model's workers runs in the order it was asked, one at a time; fetching runs beside it. A
cancelled effect answers nothing. Every answer goes through `decide`, which also carries out what the core asks next.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from skerry_agent import effects, health
from skerry_agent.core import DeviceCore
from skerry_agent.effects import Effect
from skerry_agent.errors import AgentError, StorageError, TrustError, WorkerError
from skerry_agent.helper import TrustHelper
from skerry_agent.link import Link
from skerry_agent.measure_runner import MeasureRunner
from skerry_agent.runtime import TRIAL, Runtime
from skerry_agent.shadow_budget import Readings
from skerry_agent.shadow_runner import ShadowRunner, read_device
from skerry_agent.store import BLOBS
from skerry_agent.trial import TrialError, hold
from skerry_contracts import codec
from skerry_contracts.assignment import Envelope
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.device import Reason
from skerry_contracts.errors import ContractError

LOG = logging.getLogger("skerry.agent")
RETRY_S = 30.0


class Performer:
    """The hands of the core."""

    def __init__(
        self,
        core: DeviceCore,
        root: Path,
        runtime: Runtime,
        helper: TrustHelper,
        link: Link,
        readings: Callable[[], Readings] | None = None,
    ) -> None:
        self._core, self._runtime, self._helper, self._link = core, runtime, helper, link
        self._blobs = root / BLOBS
        self.shadows = ShadowRunner(core, runtime, self._blobs, core.config.leak_bytes, self.decide, readings)
        self.measuring = MeasureRunner(core, runtime, self._blobs, self.decide, readings or read_device)
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._trials: dict[str, asyncio.Task[None]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._verifying: asyncio.Task[None] | None = None
        self._unverified: effects.Verify | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.changed = asyncio.Event()

    def decide(self, call: Callable[..., list[Effect]], *values: Any) -> None:
        """Let the core decide, and carry out what it asks."""
        for effect in call(*values):
            self.perform(effect)
        self.changed.set()

    def perform(self, effect: Effect) -> None:
        """Begin to carry out one effect."""
        match effect:
            case effects.Publish():
                if not self._link.publish(effect.channel, effect.payload, effect.key) and effect.key is not None:
                    self.decide(self._core.undeliverable, effect.key)
            case effects.Verify():
                self._verify_soon(effect)
            case effects.FetchManifest():
                self._cancel(self._fetches, effect.model)
                self._fetches[effect.model] = self._start(self._fetch_manifest(effect))
            case effects.FetchBlobs():
                self._fetches[effect.model] = self._start(self._fetch_blobs(effect))
            case effects.CancelFetch():
                self._cancel(self._fetches, effect.model)
            case effects.Trial():
                self._trials[effect.model] = self._start(self._in_turn(effect.model, self._trial(effect)))
            case effects.CancelTrial():
                self._cancel(self._trials, effect.model)
                self._start(self._in_turn(effect.model, self._runtime.stop(effect.model + TRIAL)))
            case effects.Swap():
                self._start(self._in_turn(effect.model, self._swap(effect)))
            case effects.Serve():
                self._start(self._in_turn(effect.model, self._serve(effect.model, effect.bundle, effect.variant)))
            case effects.Stop():
                self._start(self._in_turn(effect.model, self._runtime.stop(effect.model)))
            case effects.Sign():
                self._start(self._sign(effect))
            case effects.ShadowReady():
                self.shadows.ready(effect)
            case effects.ShadowLoad():
                self._start(self.shadows.load(effect))
            case effects.ShadowStop():
                self._start(self.shadows.stop(effect.model))
            case effects.Measure():
                self.measuring.start(effect)
            case effects.MeasureStop():
                self.measuring.stop(effect.order)

    def serve(self, model: str, bundle: str, variant: str) -> None:
        """Serve something in place of what does, by decision of the ladder (degrading.py)."""
        self._start(self._in_turn(model, self._serve(model, bundle, variant)))

    async def settle(self) -> None:
        """Wait for what is being done with workers (for tests and for the end); fetching is cancelled."""
        for model in list(self._fetches):
            self._cancel(self._fetches, model)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Cancel everything; candidates tell what they came to."""
        await self.shadows.close()
        await self.measuring.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("an effect broke off", exc_info=error)

    def _cancel(self, tasks: dict[str, asyncio.Task[None]], model: str) -> None:
        if (task := tasks.pop(model, None)) is not None and task is not asyncio.current_task():
            task.cancel()

    async def _in_turn(self, model: str, work: Coroutine[Any, Any, None]) -> None:
        """Do a model's work on workers in the order it was asked."""
        try:
            async with self._locks.setdefault(model, asyncio.Lock()):
                await work
        finally:
            work.close()

    def _verify_soon(self, effect: effects.Verify) -> None:
        """Check assignments one at a time, and only the newest of those that wait: a broker may send any number."""
        self._unverified = effect
        if self._verifying is None or self._verifying.done():
            self._verifying = self._start(self._verify_all())

    async def _verify_all(self) -> None:
        while (effect := self._unverified) is not None:
            self._unverified = None
            await self._verify(effect)

    async def _verify(self, effect: effects.Verify) -> None:
        try:
            answer = await self._helper.call("verify", {"envelope": base64.b64encode(effect.envelope).decode()})
        except TrustError as error:
            self.decide(self._core.unverified, effect.envelope, error.reason, str(error))
            return
        except AgentError as error:  # no verdict: the child could not be asked
            LOG.warning("assignment: %s", error)
            await asyncio.sleep(RETRY_S)
            self._unverified = self._unverified or effect
            return
        self.decide(self._core.verified, effect.envelope, base64.b64decode(answer["payload"]))

    async def _fetch_manifest(self, effect: effects.FetchManifest) -> None:
        request = {
            "target_path": effect.target_path,
            "bundle": effect.bundle,
            "size_bytes": effect.size_bytes,
            "floors": dict(effect.floors),
            "clock_floor_s": effect.clock_floor_s,
        }
        try:
            answer = await self._helper.call("manifest", request)
        except AgentError as error:
            self.decide(self._core.fetch_failed, effect.model, effect.ticket, _reason(error), str(error))
            return
        data = base64.b64decode(answer["manifest"])
        self.decide(self._core.manifest, effect.model, effect.ticket, data, answer["floors"])

    async def _fetch_blobs(self, effect: effects.FetchBlobs) -> None:
        request = {
            "manifest": base64.b64encode(effect.manifest).decode(),
            "blobs": [codec.to_plain(blob) for blob in effect.blobs],
        }

        def report(received: int, total: int) -> None:
            self.decide(self._core.received, effect.model, effect.ticket, received, total)

        try:
            await self._helper.call("blobs", request, report=report)
        except AgentError as error:
            self.decide(self._core.fetch_failed, effect.model, effect.ticket, _reason(error), str(error))
            return
        self.decide(self._core.fetched, effect.model, effect.ticket)

    async def _sign(self, effect: effects.Sign) -> None:
        try:
            answer = await self._helper.call("sign", {"receipt": codec.to_plain(effect.receipt)})
            envelope = codec.from_plain(Envelope, answer["envelope"])
        except (AgentError, ContractError) as error:
            LOG.warning("receipt: %s", error)
            await asyncio.sleep(RETRY_S)
            self.perform(effect)
            return
        self.decide(self._core.signed, effect.receipt.model, envelope)

    async def _trial(self, effect: effects.Trial) -> None:
        manifest = self._core.store.manifest(effect.bundle)
        slot, core = effect.model + TRIAL, self._core
        try:
            if manifest is None:
                raise TrialError("the bundle's files are gone", reason=Reason.STORAGE)
            variants = _named(manifest, effect.variants)
            measured = await hold(self._runtime, slot, self._blobs, manifest, effect.bundle, variants)
        except TrialError as error:
            reason = Reason.UNFIT if health.blameless(error.reason) else error.reason
            self.decide(core.trial_failed, effect.model, effect.ticket, reason, str(error))
        else:
            self.decide(core.trial_passed, effect.model, effect.ticket, measured)

    async def _swap(self, effect: effects.Swap) -> None:
        slot = self._runtime.slot(effect.model + TRIAL)
        if slot is not None and slot.bundle == effect.bundle:
            self._runtime.swap(effect.model)
        else:
            await self._serve(effect.model, effect.bundle, effect.variant)

    async def _serve(self, model: str, bundle: str, variant: str) -> None:
        manifest = self._core.store.manifest(bundle)
        chosen = next(iter(_named(manifest, (variant,))), None)
        try:
            if manifest is None or chosen is None:
                raise StorageError(f"bundle {bundle[:12]} is not in the store")
            await self._runtime.start(model, self._blobs, chosen, manifest, bundle=bundle)
        except (WorkerError, StorageError) as error:
            self._core.degraded[f"model {model}"] = str(error)
            LOG.warning("%s: %s", model, error, extra={"skerry_model": model})
            if health.blameless(error.reason):  # no fault of the bundle's: there may be room later
                asyncio.get_running_loop().call_later(RETRY_S, self._serve_again, effects.Serve(model, bundle, variant))
                return
            reason = error.reason if error.reason in (Reason.CORRUPT, Reason.STORAGE) else Reason.LOAD
            self.decide(self._core.unhealthy, model, bundle, reason, str(error))
        else:
            self._core.degraded.pop(f"model {model}", None)

    def _serve_again(self, effect: effects.Serve) -> None:
        """Try what found no room once more, if it is still wanted and nothing serves."""
        record = self._core.memory.records.get(effect.model)
        wanted = record is not None and record.active is not None and record.active.bundle == effect.bundle
        if wanted and self._runtime.slot(effect.model) is None:
            self.perform(effect)


def _named(manifest: Manifest | None, ids: tuple[str, ...]) -> list[Variant]:
    """Return the variants of these ids, in the ids' order."""
    by_id = {variant.id: variant for variant in manifest.variants} if manifest is not None else {}
    return [by_id[each] for each in ids if each in by_id]


def _reason(error: AgentError) -> Reason:
    """Return what Progress says of a failed fetch; a broken child is like a broken network: tried again."""
    return error.reason if isinstance(error, (TrustError, StorageError)) else Reason.NETWORK
