"""`skerry fleet serve`: the server process."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import signal
import socket
import sys
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from skerry_fleet import wire
from skerry_fleet.app import create_app
from skerry_fleet.broker.errors import BrokerError
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import UnavailableError

COLLECT_AT = (100_000, 20, 50)
"""Objects made and not freed between two looks for cycles. The usual 700 cost a sixth of all processor time here: what
a busy fleet holds (messages of a batch, devices of a rollout) is many objects and no cycles.
"""
SWITCH_S = 0.001
"""How long a thread may go on while another wants to: a request is answered in several turns beside ingest."""


class _Server(uvicorn.Server):
    """Ends the event streams when asked to stop: uvicorn would wait for them for ever."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take in SIGINT or SIGTERM."""
        hub = getattr(self._app.state, "hub", None)
        if hub is not None:
            hub.close()
        super().handle_exit(sig, frame)


def serve(config: FleetConfig) -> int:
    """Run until a signal ends it.

    Raises:
        FleetError: the folder, the port or the broker cannot be had.
    """
    sys.setswitchinterval(SWITCH_S)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    listener = _listen(config.host, config.port)
    app = create_app(config, time.time, secrets.token_bytes)
    fleet, broker = app.state.fleet, app.state.broker
    try:
        broker.start()
    except BrokerError as error:
        fleet.close()
        raise UnavailableError(str(error), hint=error.hint) from error
    port = listener.getsockname()[1]
    print(f"fleet    http://{config.host}:{port}", flush=True)
    for host, number in fleet.brokers:
        print(f"broker   mqtts://{host}:{number} ({broker.kind})", flush=True)
    if config.swarm_port:
        last = config.swarm_port + config.shards - 1
        print(f"swarm    mqtt://127.0.0.1:{config.swarm_port}..{last}: no TLS, simulated devices only", flush=True)
    if fleet.new_key:
        print(f"admin    {fleet.new_key}", flush=True)
        print(f"         shown once; kept in {config.root / 'admin.key'}", flush=True)
    settings = wire.settings(app, config)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until uvicorn puts its own in place
    gc.enable()  # off since the program began to load: a tenth of its start
    gc.freeze()  # what stands now stands until the end
    gc.set_threshold(*COLLECT_AT)
    try:
        asyncio.run(_Server(settings, app).serve(sockets=[listener]))
    except KeyboardInterrupt:
        pass
    finally:
        broker.stop()
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, so that a taken port is told before anything is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, else asyncio does not know TCP by it and leaves Nagle's delay on: 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"cannot listen on {host}:{port}: {error.strerror}", hint="choose another --port"
        ) from error
    listener.setblocking(False)
    return listener
