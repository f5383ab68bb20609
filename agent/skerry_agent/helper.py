"""The supervisor's end of the trust children: started on demand, kept warm a moment, killed with a cancelled call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from skerry_agent.errors import AgentError, NetworkError, StorageError, TrustError
from skerry_contracts.device import Reason

MAX_LINE_BYTES = 32 * 1024 * 1024  # a manifest of 8 MiB in base64, with room
CALL_DEADLINE_S = 120.0

Report = Callable[[int, int], None]


class TrustHelper:
    """Calls verbs of `skerry_agent.trust`. A busy child is not waited for: another is started beside it."""

    def __init__(self, root: Path, *, idle_s: float) -> None:
        self._root = root
        self._idle_s = idle_s
        self._idle: list[tuple[Process, asyncio.TimerHandle]] = []
        self._all: set[Process] = set()

    async def call(self, verb: str, request: Mapping[str, Any], *, report: Report | None = None) -> dict[str, Any]:
        """Return a verb's answer; `report` hears of a download's bytes. Without it the call has a deadline.

        Raises:
            TrustError, StorageError, NetworkError: what the child said.
            AgentError: the child broke.
        """
        process = await self._take()
        finished = False
        try:
            async with asyncio.timeout(None if report is not None else CALL_DEADLINE_S):
                answer = await _ask(process, json.dumps({"verb": verb, **request}).encode() + b"\n", report)
            finished = True
        except TimeoutError:
            raise NetworkError(f"{verb}: no answer within {CALL_DEADLINE_S:.0f} s") from None
        finally:
            if finished:
                self._keep(process)
            else:
                await self._end(process)
        if "ok" in answer:
            return dict(answer["ok"])
        raise _error(answer)

    async def close(self) -> None:
        """End every child."""
        for _, timer in self._idle:
            timer.cancel()
        self._idle.clear()
        for process in list(self._all):
            await self._end(process)

    async def _take(self) -> Process:
        while self._idle:
            process, timer = self._idle.pop()
            timer.cancel()
            if process.returncode is None:
                return process
            self._all.discard(process)
        command = [sys.executable, "-m", "skerry_agent.trust", str(self._root), str(os.getpid())]
        try:
            process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=MAX_LINE_BYTES)
        except OSError as error:
            raise AgentError(f"cannot start a helper process: {error}") from error
        self._all.add(process)
        return process

    def _keep(self, process: Process) -> None:
        def expire() -> None:
            self._idle[:] = [each for each in self._idle if each[0] is not process]
            self._all.discard(process)
            if process.stdin is not None:
                process.stdin.close()  # the child ends with its input

        self._idle.append((process, asyncio.get_running_loop().call_later(self._idle_s, expire)))

    async def _end(self, process: Process) -> None:
        self._all.discard(process)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())


async def _ask(process: Process, line: bytes, report: Report | None) -> dict[str, Any]:
    if process.stdin is None or process.stdout is None:
        raise AgentError("a helper process without pipes")
    try:
        process.stdin.write(line)
        await process.stdin.drain()
        while True:
            raw = await process.stdout.readline()
            if not raw:
                raise AgentError("a helper process ended unexpectedly")
            answer: dict[str, Any] = json.loads(raw)
            if "progress" not in answer:
                return answer
            if report is not None:
                report(*answer["progress"])
    except (OSError, ValueError) as error:
        raise AgentError(f"a helper process broke: {error}") from error


def _error(answer: Mapping[str, Any]) -> AgentError:
    said = answer.get("error", {})
    reason, detail = Reason(said.get("reason", "storage")), str(said.get("detail", ""))
    if reason == Reason.NETWORK:
        return NetworkError(detail)
    if reason in (Reason.STORAGE, Reason.NO_SPACE):
        return StorageError(detail, reason=reason)
    return TrustError(detail, reason=reason)
