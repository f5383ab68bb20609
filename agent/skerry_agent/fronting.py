"""The gRPC front as the agent sees it: a process that is started, watched, and started again when it ends or is silent.

It is no part of the supervisor: whatever a gRPC client sends is taken apart there, and reaches the agent as requests to
the local API like any other program's.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import MutableMapping
from typing import Any

from skerry_agent.config import AgentConfig
from skerry_agent.errors import AgentError, ConfigError

LOG = logging.getLogger("skerry.agent.grpc")
SOCKET = "run/grpc.sock"
FOLDER = "run/grpc"
FIRST_S, MAX_S = 1.0, 300.0  # between two starts, doubling while it does not come to serve
START_S = 60.0  # an import from a slow card takes its time
SILENT_S = 30.0
END_S = 3.0
KEY = "grpc"  # of what is degraded
PACKAGES = ("grpc", "google.protobuf")


class Front:
    """Keeps one front process. `api` is the local API's socket, `secret` speaks for others there (see behalf)."""

    def __init__(self, config: AgentConfig, degraded: MutableMapping[str, str], secret: str) -> None:
        self._config, self._degraded, self._secret = config, degraded, secret
        self._serving: dict[str, Any] | None = None
        self.starts = 0
        self.token: str | None = None

    @property
    def wanted(self) -> bool:
        """Whether the settings ask for gRPC."""
        return self._config.grpc or self._config.grpc_port is not None

    def status(self) -> dict[str, Any]:
        """Return what `skerry agent status` shows: empty where gRPC is not asked for."""
        if not self.wanted:
            return {}
        return {"grpc": {"serving": self._serving is not None, "starts": self.starts, **(self._serving or {})}}

    async def run(self, stop: asyncio.Event) -> None:
        """Keep it running until stopped."""
        wait_s = FIRST_S
        while not stop.is_set():
            try:
                check_installed()
                await self._once(stop)
                wait_s = FIRST_S
            except (AgentError, OSError) as error:
                words = f"{error} ({error.hint})" if isinstance(error, AgentError) and error.hint else str(error)
                if self._degraded.get(KEY) != words:
                    LOG.error("gRPC is not served: %s", words)
                self._degraded[KEY] = words
                wait_s = FIRST_S if self._serving is not None else min(2 * wait_s, MAX_S)
            self._serving = None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait_s)

    async def _once(self, stop: asyncio.Event) -> None:
        """Run one process to its end.

        Raises:
            AgentError: it could not serve, ended or fell silent.
            OSError: it cannot be started.
        """
        command = [sys.executable, "-m", "skerry_agent.grpc_front"]
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, start_new_session=True)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(self._orders()).encode() + b"\n")
            within_s = START_S
            while not stop.is_set():
                hearing = asyncio.ensure_future(_line(process))
                await asyncio.wait((hearing, stopping), timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
                if not hearing.done():
                    hearing.cancel()
                    if stop.is_set():
                        return
                    raise AgentError(f"the gRPC process said nothing for {within_s:.0f} s and was ended")
                self._hear(hearing.result(), process)
                within_s = SILENT_S
        finally:
            stopping.cancel()
            await asyncio.shield(_end(process))

    def _orders(self) -> dict[str, Any]:
        root = self._config.root
        return {
            "api": str(root / "run" / "api.sock"),
            "socket": str(root / SOCKET),
            "folder": str(root / FOLDER),
            "port": self._config.grpc_port,
            "message_bytes": self._config.grpc_message_bytes,
            "token": self.token,
            "secret": self._secret,
        }

    def _hear(self, said: dict[str, Any], process: Process) -> None:
        if "error" in said:
            raise AgentError(f"the gRPC process {said['error']}", hint="choose another --grpc-port")
        if "port" in said:
            self.starts += 1
            self._serving = {"pid": process.pid, "socket": str(self._config.root / SOCKET), "port": said["port"]}
            self._degraded.pop(KEY, None)
            where = self._config.root / SOCKET
            LOG.info("gRPC is served at %s%s", where, f" and 127.0.0.1:{said['port']}" if said["port"] else "")


def check_installed() -> None:
    """Check that what gRPC needs is here, without loading it.

    Raises:
        ConfigError: it is not.
    """
    for name in PACKAGES:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:  # of a parent package
            found = None
        if found is None:
            raise ConfigError(f"{name} is not installed", hint="pip install 'skerry[grpc]', then restart the agent")


async def _line(process: Process) -> dict[str, Any]:
    """Return the next line it says.

    Raises:
        AgentError: it ended, or says nonsense.
    """
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise AgentError(f"the gRPC process ended with status {await process.wait()}; it is started again")
    try:
        said = json.loads(line)
        if not isinstance(said, dict):
            raise ValueError
    except ValueError:
        raise AgentError(f"the gRPC process said {line[:80]!r}") from None
    return said


async def _end(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()  # it ends with its input
    try:
        await asyncio.wait_for(process.wait(), END_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
