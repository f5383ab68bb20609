"""A small loop that keeps a table of services running: what should run runs, and what fails is started again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from skerry_agent.errors import AgentError

LOG = logging.getLogger("skerry.agent")
RESTART_S = 5.0

Service = tuple[str, Callable[[], Coroutine[Any, Any, None]], Callable[[], bool]]


async def reconcile(services: list[Service], stop: asyncio.Event) -> None:
    """Keep what should run running, and what should not from it; one that fails is started again after a moment."""
    running: dict[str, asyncio.Task[None]] = {}
    stopping = asyncio.ensure_future(stop.wait())
    while True:
        for name, start, wanted in services:
            if name not in running and wanted():
                running[name] = asyncio.create_task(start(), name=name)
        if not running:
            return
        waited = list(running.values()) if stop.is_set() else [*running.values(), stopping]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        for name, task in list(running.items()):
            if task.done():
                del running[name]
                if not task.cancelled() and (error := task.exception()) is not None:
                    LOG.error("%s: %s", name, error, exc_info=None if isinstance(error, AgentError) else error)
                    await asyncio.sleep(RESTART_S)
