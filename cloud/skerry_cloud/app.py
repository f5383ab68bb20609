"""The cloud side as one process: what runs in it, and when. Everything with a clock, a disk or a network is made
here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn

from skerry_cloud import sync
from skerry_cloud.config import ServeConfig
from skerry_cloud.errors import CloudError, FleetError, RefusedError, StoppingError
from skerry_cloud.fleet_client import FleetClient, read_key
from skerry_cloud.lake.compact import compact
from skerry_cloud.monitor import verdicts
from skerry_cloud.monitor.verdicts import Verdict
from skerry_cloud.monitor.watch import Watch
from skerry_cloud.pipelines.engine import Executor, Log, Pipeline, Step
from skerry_cloud.pipelines.walk import walk
from skerry_cloud.seals import Opener
from skerry_cloud.services import Services, open_services
from skerry_cloud.web.pages import build
from skerry_contracts import codec
from skerry_contracts.bundle import Manifest
from skerry_contracts.errors import ContractError

LOOK_WHILE_RUNNING_S = 15.0
log = logging.getLogger(__name__)


class Cloud:
    """The loops of `serve`, each callable by itself: `sync`, `monitor`, `pipelines`."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.log = Log(services.database, services.now)
        self.executor = Executor(self.log, self._walk, services.stopping)
        self._opener = Opener(services.root / "seal")
        self._looked: dict[str, float] = {}
        self._told: dict[tuple[str, str], int | None] = {}
        self._watches = {model: Watch(services, model) for model in services.projects}

    def sync(self) -> None:
        """Take in the fleet's feeds, and the manifests of bundles not seen before.

        Raises:
            FleetError: the fleet does not answer or refuses.
            DataError: the disk refuses.
        """
        client = self.services.fleet()
        sync.pull(client, self.services.lake, opener=self._opener)
        compact(self.services.lake)
        for bundle in self.services.registry.unknown_bundles():
            try:
                manifest = codec.from_plain(Manifest, client.bundle(bundle).get("manifest"))
            except FleetError as error:
                if error.status != 404:
                    raise
                continue  # the fleet has forgotten it; its samples stay without a training
            except ContractError as error:
                log.warning("bundle %s has a manifest this version cannot read: %s", bundle[:12], error)
                continue
            self.services.registry.add_bundle(bundle, manifest)

    def monitor(self) -> None:
        """Let every monitor look, tell the fleet's dashboard, and start a pipeline where an alarm stands.

        Raises:
            CloudError: the lake cannot be read, or the fleet does not answer.
        """
        running = {each.model for each in self.log.all(running=True)}
        now_s = self.services.now()
        for model, watch in self._watches.items():
            # Its alarm has been heard: training and compiling need the processor more than another look at the same.
            if model in running and now_s < self._looked.get(model, 0.0) + LOOK_WHILE_RUNNING_S:
                continue
            self._looked[model] = now_s
            for verdict in watch.look():
                log.info("%s on %s: %.4g against %.4g", verdict.monitor, model, verdict.score, verdict.threshold)
            alarm = watch.alarm()
            if alarm is not None:
                self._start(alarm)
            self._tell(model)

    def pipelines(self) -> None:
        """Take up every pipeline that waits for a thread, also those that another process created."""
        self.executor.take_up()

    def _start(self, alarm: Verdict) -> None:
        cause = {
            "kind": "alarm",
            "monitor": alarm.monitor,
            "verdict": alarm.id,
            "bundle": alarm.bundle,
            "since_s": alarm.window.start_s,
        }
        try:
            cooldown_s = self.services.project(alarm.model).cooldown_s
            created = self.log.create(f"{alarm.model}-{alarm.id}", alarm.model, cause, cooldown_s=cooldown_s)
            log.info("pipeline %s begins: %s", created.id, alarm.monitor)
        except RefusedError as error:
            log.debug("no pipeline now: %s", error)

    def _tell(self, model: str) -> None:
        """Tell the fleet each monitor's newest verdict; what it could not be told it is told at the next look."""
        newest: dict[str, Verdict] = {}
        for verdict in verdicts.newest(self.services.database, model=model):
            newest.setdefault(verdict.monitor, verdict)
        for verdict in newest.values():
            if self._told.get((model, verdict.monitor)) == verdict.id:
                continue
            try:
                self.services.fleet().put_drift(model, {**dataclasses.asdict(verdict), "drifting": verdict.alarm})
            except FleetError as error:
                if error.passing:
                    raise
                log.warning("the fleet does not take the verdict: %s", error)
            self._told[model, verdict.monitor] = verdict.id

    def _walk(self, pipeline: Pipeline, step: Step) -> dict[str, object]:
        return walk(self.services, self.log, pipeline, step)


def serve(config: ServeConfig, announce: Callable[[str], None]) -> None:
    """Run until SIGINT or SIGTERM; `announce` is told the address once the pages are up.

    Raises:
        ConfigError: the key file or a project file is wrong.
        RefusedError: the port is taken, or another process serves this root.
    """
    with _listen(config.host, config.port) as listener:
        client = FleetClient(config.fleet, read_key(Path(config.key_file)))
        services = open_services(Path(config.root), client=client, writer=True)
        try:
            _run(config, services, listener, announce)
        finally:
            services.close()


def _run(config: ServeConfig, services: Services, listener: socket.socket, announce: Callable[[str], None]) -> None:
    cloud = Cloud(services)
    # What runs in this process, and the pause between two runs in seconds.
    table: tuple[tuple[str, Callable[[], None], float], ...] = (
        ("sync", cloud.sync, config.sync_interval_s),
        ("monitor", cloud.monitor, config.monitor_interval_s),
        ("pipelines", cloud.pipelines, 0.5),
    )
    threads = [
        threading.Thread(target=_loop, args=(name, work, pause_s, services.stopping), name=name, daemon=True)
        for name, work, pause_s in table
    ]
    app = build(services, cloud.log)
    server = _Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=3))
    host, port = listener.getsockname()[:2]
    for thread in threads:
        thread.start()
    announce(f"http://{host}:{port}")
    with _signals(server):
        server.run(sockets=[listener])
    services.stopping.set()
    for thread in threads:
        thread.join(30)
    cloud.executor.join(30)


def _loop(name: str, work: Callable[[], None], pause_s: float, stopping: threading.Event) -> None:
    """Call `work` again and again; its errors are logged once while they last, and never end the loop."""
    said = ""
    while not stopping.is_set():
        try:
            work()
            said = ""
        except StoppingError:
            return
        except CloudError as error:
            if str(error) != said:
                log.error("%s: %s (%s)", name, error, error.hint)
            said = str(error)
        except Exception:  # the supervisor: a fault in one loop must not stop the others
            log.exception("%s", name)
            time.sleep(1)
        stopping.wait(pause_s)


class _Server(uvicorn.Server):
    """A server whose signals are ours: the loops must hear them as well."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def _signals(server: uvicorn.Server) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise RefusedError(f"cannot listen on {host}:{port}: {error.strerror}", hint="give another --port") from error
    return listener
