"""The front's process: told what to do by one line on standard input, it serves until that is closed.

What it says, a line of JSON each: `{"port": N}` once it serves (null: no port), `{"error": "...", "hint": "..."}` where
it cannot, and then `{}` every few seconds as long as its loop turns.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import grpc

from skerry_agent import sockets
from skerry_agent.grpc_front.relay import Relay
from skerry_agent.grpc_front.service import Limits, Service, Settings
from skerry_agent.grpc_front.upstream import Upstream

BEAT_S = 5.0
GRACE_S = 0.5
ROOM_BYTES = 256 * 1024 * 1024  # the library's own, threads' stacks included
COPIES = 5  # of a message at once: as it comes, as bytes, taken apart, on its way
STREAMS = 16  # calls at once on one connection
WINDOW_BYTES = 512 * 1024  # of each that may come before it is read
PING_S, PONG_S = 60, 20  # a connection whose other end is gone is closed
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def main() -> int:
    """Serve; return 1 where that cannot be."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the agent
    said: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    limits = Limits()
    _confine(ROOM_BYTES + COPIES * (2 * limits.messages + limits.streams) * int(said["message_bytes"]))
    try:
        asyncio.run(_serve(said, limits))
    except OSError as error:
        _say({"error": f"cannot listen: {error.strerror or error}"})
        return 1
    return 0


async def _serve(said: dict[str, Any], limits: Limits) -> None:
    """Serve until standard input is closed.

    Raises:
        OSError: the socket or port is taken, or may not be used.
    """
    folder = Path(said["folder"])
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    entered = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    inner = f"/proc/self/fd/{entered}/inner.sock"  # however long the folder's path is
    relay = Relay(inner)
    inferring, asking = (Upstream(Path(said["api"]), count) for count in (limits.inferences, limits.others))
    settings = Settings(said["secret"], said["token"], limits)
    server = grpc.aio.server(options=_options(said["message_bytes"]))
    server.add_generic_rpc_handlers((Service(relay, inferring, asking, settings),))
    server.add_insecure_port(f"unix:{inner}")
    await server.start()
    path = Path(said["socket"])
    listening = [sockets.listen(path)]
    try:
        if said["port"] is not None:
            listening.append(socket.create_server(("127.0.0.1", said["port"]), backlog=64))
            listening[-1].setblocking(False)
        for each in listening:
            await relay.serve(each)
        _say({"port": listening[1].getsockname()[1] if len(listening) > 1 else None})
        await _until_closed()
    finally:
        relay.close()
        await server.stop(GRACE_S)
        path.unlink(missing_ok=True)


async def _until_closed() -> None:
    """Say every few seconds that the loop turns, until the agent closes our input or is gone."""
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), closed.set)
    while not closed.is_set():
        try:
            await asyncio.wait_for(closed.wait(), BEAT_S)
        except TimeoutError:
            _say({})


def _options(message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.http2.bdp_probe", 0),  # else what waits to be read grows with the sender's speed
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: what is small on the wire must be small in memory
        ("grpc.server_handshake_timeout_ms", 20_000),
        ("grpc.keepalive_time_ms", PING_S * 1000),
        ("grpc.keepalive_timeout_ms", PONG_S * 1000),
        ("grpc.max_connection_idle_ms", 300_000),
        ("grpc.so_reuseport", 0),
    ]


def _confine(data_bytes: int) -> None:
    """Bound this process: its memory, no core dumps, no rights it could gain, and no life after the agent's."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for kind, value in ((resource.RLIMIT_DATA, data_bytes), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _say(words: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
