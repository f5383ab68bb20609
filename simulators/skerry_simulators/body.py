"""A simulated device's body: carries out what the core asks for, as the daemon does with processes and sockets.

Only time, chance and the world's behaviour are made up here. What is fetched goes through the agent's own store onto
the simulated disk; what is loaded is checked by the store's digests and again against the world's truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from skerry_agent import effects
from skerry_agent.core import DeviceCore
from skerry_agent.errors import AgentError, NetworkError, StorageError, TrustError, WorkerError
from skerry_agent.hooks import Prediction
from skerry_agent.records import Measured
from skerry_agent.store import BLOBS
from skerry_agent.trust.fetch import fetch_bundle
from skerry_contracts.bundle import Blob
from skerry_contracts.device import ModelHealth, ModelState, Reason
from skerry_simulators.catalogue import Kind
from skerry_simulators.host import Host, Worker
from skerry_simulators.mirror import Mirror, Pause
from skerry_simulators.shadow_body import ShadowBody

SERVE_AGAIN_S = 30.0
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
            self.host.hit("download cut")
            self.host.ask("fetch_failed", effect.model, effect.ticket, Reason.NETWORK, "no answer")
            return
        stale = rng.random() < faults.hostile
        if stale:
            self.host.hit("old metadata")
        answer = self.host.repository.ask(
            effect.target_path,
            believed_s=max(believed_s, effect.clock_floor_s),
            true_s=true_s,
            floors=dict(effect.floors),
            stale=stale,
        )
        if answer.manifest is None:
            self.host.ask("fetch_failed", effect.model, effect.ticket, answer.reason, answer.detail)
        else:
            self.host.ask("manifest", effect.model, effect.ticket, answer.manifest, answer.versions)

    def _fetch_blobs(self, effect: effects.FetchBlobs) -> None:
        self.fetching[effect.model] = effect.ticket
        self.host.later(self.host.rng.uniform(0.1, 1.0), self._next_pieces, effect)

    def _next_pieces(self, effect: effects.FetchBlobs) -> None:
        """Let the agent's own download go on for some pieces."""
        if self.fetching.get(effect.model) != effect.ticket or self.host.core is None:
            return
        host, store = self.host, self.host.core.store
        mirror = Mirror(host.repository, host.faults, host.rng, host.reachable, host.hit)
        try:
            fetch_bundle(store, mirror, effect.manifest, effect.blobs, lambda *_: None)
        except Pause:
            host.later(host.rng.uniform(0.05, 0.5), self._next_pieces, effect)
        except (NetworkError, StorageError, TrustError) as error:
            reason = Reason.NETWORK if isinstance(error, NetworkError) else error.reason
            host.ask("fetch_failed", effect.model, effect.ticket, reason, str(error))
        else:
            host.ask("fetched", effect.model, effect.ticket)

    def _cancel_fetch(self, effect: effects.CancelFetch) -> None:
        self.fetching.pop(effect.model, None)

    # Workers.

    def _trial(self, effect: effects.Trial) -> None:
        self.host.later(self.host.rng.uniform(1.0, 5.0), self._tried, effect)

    def _tried(self, effect: effects.Trial) -> None:
        try:
            worker = self._load(effect.bundle, effect.variants[0])
            manifest = self.host.core.store.manifest(effect.bundle) if self.host.core is not None else None
            if self.host.core is not None and manifest is not None:
                self._check(self.host.core, (manifest.golden.inputs, manifest.golden.outputs))
        except AgentError as error:
            self.host.ask("trial_failed", effect.model, effect.ticket, _reason(error), str(error))
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
        self.host.note("serve", effect.bundle[:8])
        self.host.later(self.host.rng.uniform(0.2, 1.0), self._served, effect)

    def _served(self, effect: effects.Serve) -> None:
        live = self.live.get(effect.model)
        if self.wanted.get(effect.model) != effect.bundle or (live is not None and live.bundle == effect.bundle):
            return
        try:
            self.live[effect.model] = self._load(effect.bundle, effect.variant)
        except AgentError as error:
            if _reason(error) is Reason.UNFIT:  # as the daemon does: no fault of the bundle's
                self.host.later(SERVE_AGAIN_S, self._served, effect)
            else:
                self.host.ask("unhealthy", effect.model, effect.bundle, _reason(error), str(error))

    def _stop(self, effect: effects.Stop) -> None:
        self.wanted.pop(effect.model, None)
        self.live.pop(effect.model, None)

    def _load(self, bundle: str, variant: str) -> Worker:
        """Start a worker, as the runtime does: from blobs whose digests were just checked."""
        core = self.host.core
        manifest = core.store.manifest(bundle) if core is not None else None
        if core is None or manifest is None:
            raise StorageError(f"bundle {bundle[:12]} is not here")
        if self.host.pressed:
            raise WorkerError("killed by the kernel while loading", reason=Reason.UNFIT)
        self._check(core, next(each for each in manifest.variants if each.id == variant).blobs.values())
        self.host.loading(bundle, variant)
        return Worker(bundle, variant, self.host.repository.bundles[bundle].kind)

    def _check(self, core: DeviceCore, blobs: Iterable[Blob]) -> None:
        for blob in blobs:
            found = core.store.disk.digest(f"{BLOBS}/{blob.sha256}")
            if found != blob.sha256:
                reason = Reason.LOAD if found is None else Reason.CORRUPT
                raise WorkerError(f"blob {blob.sha256[:12]} is not what its digest says", reason=reason)

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
        self.host.later(pause_s, self._restarted, model, worker)
        if not self.host.pressed:  # as the daemon does: with memory short it is no fault of the bundle's
            self.host.ask("unhealthy", model, worker.bundle, Reason.CRASHED, "exit code -11")

    def _restarted(self, model: str, worker: Worker) -> None:
        if self.live.get(model) is not worker:
            return
        try:
            self._load(worker.bundle, worker.variant)
        except AgentError as error:
            pause_s = min(LAST_RESTART_S, FIRST_RESTART_S * 2.0 ** min(worker.crashes, 20))
            worker.crashes += 1
            self.host.later(pause_s, self._restarted, model, worker)
            if _reason(error) is not Reason.UNFIT:
                self.host.ask("unhealthy", model, worker.bundle, _reason(error), str(error))
            return
        worker.running = True
        worker.restarts += 1

    def predict(self, model: str) -> None:
        """A local program asks for an inference."""
        worker, core = self.live.get(model), self.host.core
        self.host.answered(worker is not None and worker.running and worker.kind is not Kind.CRASHES)
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


def _reason(error: AgentError) -> Reason:
    """Return what the daemon would say of a worker that does not start (performer.py)."""
    kept = (Reason.CORRUPT, Reason.STORAGE, Reason.UNFIT)
    known = isinstance(error, (StorageError, WorkerError)) and error.reason in kept
    return error.reason if known and isinstance(error, (StorageError, WorkerError)) else Reason.LOAD
