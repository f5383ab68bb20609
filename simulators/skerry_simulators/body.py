"""A simulated device's body: carries out what the core asks for, as the daemon does with processes and sockets.

Only time, chance and the world's behaviour are made up here. What is fetched goes through the agent's own store onto
the simulated disk; what is loaded is checked by the store's digests and again against the world's truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry_agent import effects
from skerry_agent.errors import StorageError
from skerry_agent.hooks import Prediction
from skerry_agent.records import Measured
from skerry_contracts.bundle import Blob
from skerry_contracts.device import ModelHealth, ModelState, Reason
from skerry_simulators.catalogue import Kind
from skerry_simulators.host import Host, Worker
from skerry_simulators.shadow_body import ShadowBody

PIECE_BYTES = 512
FIRST_RESTART_S = 0.1
LAST_RESTART_S = 30.0


class Body(ShadowBody):
    """Downloads, workers and their slots of one boot. A new boot gets a new body."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.live: dict[str, Worker] = {}
        self.trial: dict[str, Worker] = {}
        self.wanted: dict[str, str] = {}  # model: bundle that Serve or Swap asked for last
        self.shadows: dict[str, effects.ShadowReady] = {}
        self.loaded: dict[str, Worker] = {}  # candidates in the shadow
        self.fetching: dict[str, int] = {}  # model: ticket of the fetch under way

    def carry_out(self, wanted: list[effects.Effect]) -> None:
        """Carry out effects in their order."""
        for effect in wanted:
            self._handlers[type(effect)](self, effect)

    def _verify(self, effect: effects.Verify) -> None:
        self.host.later(self.host.rng.uniform(0.05, 0.4), self._verified, effect.envelope)

    def _verified(self, envelope: bytes) -> None:
        payload = self.host.verify(envelope)
        if payload is None:
            self.host.ask("unverified", envelope, Reason.UNSIGNED, "no known key signed it")
        else:
            self.host.ask("verified", envelope, payload)

    def _fetch_manifest(self, effect: effects.FetchManifest) -> None:
        self.fetching[effect.model] = effect.ticket
        self.host.asking(effect)
        self.host.later(self.host.rng.uniform(0.2, 2.0), self._manifest, effect)

    def _manifest(self, effect: effects.FetchManifest) -> None:
        if self.fetching.get(effect.model) != effect.ticket:
            return
        believed_s, true_s = self.host.times()
        faults, rng = self.host.faults, self.host.rng
        if not self.host.reachable() or rng.random() < faults.download_cut:
            self.host.ask("fetch_failed", effect.model, effect.ticket, Reason.NETWORK, "no answer")
            return
        answer = self.host.repository.ask(
            effect.target_path,
            believed_s=max(believed_s, effect.clock_floor_s),
            true_s=true_s,
            floors=dict(effect.floors),
            stale=rng.random() < faults.hostile,
        )
        if answer.manifest is None:
            self.host.ask("fetch_failed", effect.model, effect.ticket, answer.reason, answer.detail)
        else:
            self.host.ask("manifest", effect.model, effect.ticket, answer.manifest, answer.versions)

    def _fetch_blobs(self, effect: effects.FetchBlobs) -> None:
        self.fetching[effect.model] = effect.ticket
        self.host.later(self.host.rng.uniform(0.1, 1.0), self._next_piece, effect, list(effect.blobs))

    def _next_piece(self, effect: effects.FetchBlobs, left: list[Blob]) -> None:
        """Receive a piece of the first blob that is left; after the last, write the manifest."""
        if self.fetching.get(effect.model) != effect.ticket or self.host.core is None:
            return
        store, rng, faults = self.host.core.store, self.host.rng, self.host.faults
        try:
            if not left:
                store.put_manifest(effect.manifest)
                self.host.ask("fetched", effect.model, effect.ticket)
                return
            blob = left[0]
            if not self.host.reachable() or rng.random() < faults.download_cut:
                self.host.ask("fetch_failed", effect.model, effect.ticket, Reason.NETWORK, "the connection broke")
                return
            offset = store.partial_bytes(blob)
            if offset == 0:
                store.reserve(blob)
            piece = self.host.repository.blobs[blob.sha256][offset : offset + PIECE_BYTES]
            if rng.random() < faults.download_corrupt:
                piece = bytes(each ^ 0x55 for each in piece)
            store.append(blob, offset, piece)
            if offset + len(piece) == blob.size_bytes:
                store.finish(blob)
                left = left[1:]
        except StorageError as error:
            # A digest that does not fit is the network's fault here, as it is for the real download: worth another try.
            reason = Reason.NETWORK if error.reason is Reason.CORRUPT else error.reason
            self.host.ask("fetch_failed", effect.model, effect.ticket, reason, str(error))
            return
        self.host.later(rng.uniform(0.05, 0.5), self._next_piece, effect, left)

    def _cancel_fetch(self, effect: effects.CancelFetch) -> None:
        self.fetching.pop(effect.model, None)

    # Workers.

    def _trial(self, effect: effects.Trial) -> None:
        self.host.later(self.host.rng.uniform(1.0, 5.0), self._tried, effect)

    def _tried(self, effect: effects.Trial) -> None:
        try:
            worker = self._load(effect.bundle, effect.variants[0])
        except StorageError as error:
            self.host.ask("trial_failed", effect.model, effect.ticket, error.reason, str(error))
            return
        if worker.kind is Kind.GOLDEN:
            self.host.ask("trial_failed", effect.model, effect.ticket, Reason.GOLDEN, "3 of 8 vectors are wrong")
            return
        self.trial[effect.model] = worker
        measured = Measured(worker.variant, 8, 0.25, 0.5, 9 << 20)
        self.host.ask("trial_passed", effect.model, effect.ticket, measured)

    def _cancel_trial(self, effect: effects.CancelTrial) -> None:
        self.trial.pop(effect.model, None)

    def _swap(self, effect: effects.Swap) -> None:
        worker = self.trial.pop(effect.model, None)
        if worker is None or worker.bundle != effect.bundle:
            self._serve(effects.Serve(effect.model, effect.bundle, effect.variant))
            return
        self.wanted[effect.model] = effect.bundle
        self.live[effect.model] = worker
        self.host.note("swap", effect.bundle[:8])

    def _serve(self, effect: effects.Serve) -> None:
        self.wanted[effect.model] = effect.bundle
        self.live.pop(effect.model, None)
        self.host.note("serve", effect.bundle[:8])
        self.host.later(self.host.rng.uniform(0.2, 1.0), self._served, effect)

    def _served(self, effect: effects.Serve) -> None:
        if self.wanted.get(effect.model) != effect.bundle or effect.model in self.live:
            return
        try:
            self.live[effect.model] = self._load(effect.bundle, effect.variant)
        except StorageError as error:
            self.host.ask("unhealthy", effect.model, effect.bundle, error.reason, str(error))

    def _stop(self, effect: effects.Stop) -> None:
        self.wanted.pop(effect.model, None)
        self.live.pop(effect.model, None)

    def _load(self, bundle: str, variant: str) -> Worker:
        """Start a worker, as the runtime does: from blobs whose digests were just checked."""
        core = self.host.core
        manifest = core.store.manifest(bundle) if core is not None else None
        if core is None or manifest is None:
            raise StorageError(f"bundle {bundle[:12]} is not here")
        core.store.check(manifest, next(each for each in manifest.variants if each.id == variant))
        self.host.loading(bundle, variant)
        return Worker(bundle, variant, self.host.repository.bundles[bundle].kind)

    def crash(self, model: str) -> None:
        """The live worker dies; the core hears of it, and the runtime starts another after a pause that doubles."""
        worker = self.live.get(model)
        if worker is None or not worker.running:
            return
        pause_s = min(LAST_RESTART_S, FIRST_RESTART_S * 2.0 ** min(worker.crashes, 20))
        worker.running = False
        worker.crashes += 1
        worker.errors += 1
        self.host.note("worker died", worker.bundle[:8])
        self.host.later(pause_s, self._restarted, worker)
        self.host.ask("unhealthy", model, worker.bundle, Reason.CRASHED, "exit code -11")

    def _restarted(self, worker: Worker) -> None:
        worker.running = True
        worker.restarts += 1

    def predict(self, model: str) -> None:
        """A local program asks for an inference."""
        worker, core = self.live.get(model), self.host.core
        if worker is None or not worker.running or core is None:
            return
        if worker.kind is Kind.CRASHES:
            self.crash(model)
            return
        image, scores = self.host.inputs.draw(self.host.rng, worker.kind)
        name = core.next_prediction(model)
        worker.predictions += 1
        self.host.ask("on_prediction", Prediction(name, model, (image,), (scores,), 0.25))

    def health(self) -> list[ModelHealth]:
        """Return what the runtime would say of its workers since the last time."""
        found, core = [], self.host.core
        for model, worker in self.live.items():
            manifest = core.store.manifest(worker.bundle) if core is not None else None
            state = ModelState.SERVING if worker.running else ModelState.DEGRADED
            version = manifest.version if manifest is not None else ""
            found.append(
                ModelHealth(
                    model,
                    version,
                    worker.bundle,
                    worker.variant,
                    state,
                    worker.predictions,
                    worker.errors,
                    worker.restarts,
                    0.25,
                    0.5,
                    9 << 20,
                )
            )
            worker.predictions = worker.errors = worker.restarts = 0
        return found

    _handlers: dict[type, Callable[[Any, Any], None]] = {
        **ShadowBody._shadow_handlers,
        effects.Verify: _verify,
        effects.FetchManifest: _fetch_manifest,
        effects.FetchBlobs: _fetch_blobs,
        effects.CancelFetch: _cancel_fetch,
        effects.Trial: _trial,
        effects.CancelTrial: _cancel_trial,
        effects.Swap: _swap,
        effects.Serve: _serve,
        effects.Stop: _stop,
        effects.Sign: lambda self, effect: self.host.sign(effect),
        effects.Publish: lambda self, effect: self.host.publish(effect.channel, effect.payload, effect.key),
    }
