"""The calls that are no inference: each asks the local API once, and fills its response from the document."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from skerry_agent import behalf
from skerry_agent.errors import RequestError
from skerry_agent.grpc_front import words
from skerry_agent.grpc_front.relay import Caller
from skerry_agent.grpc_front.upstream import Upstream, model_path


class Ask:
    """Asks the agent for one caller."""

    def __init__(self, upstream: Upstream, caller: Caller, secret: str) -> None:
        self._upstream, self._caller, self._secret = upstream, caller, secret

    def header(self) -> tuple[str, str]:
        """Return for whom is asked."""
        return behalf.header(self._secret, self._caller.peer)

    async def __call__(self, method: str, path: str, document: Any = None) -> Any:
        """Return the JSON answer; None where it is empty."""
        parts = [json.dumps(document).encode()] if document is not None else []
        _, body = await self._upstream.ask(method, path, [self.header()], parts)
        return json.loads(body) if body else None


async def _live(_: Any, response: Any, ask: Ask) -> Any:
    return words.fill(await ask("GET", "/v2/health/live"), response)


async def _ready(_: Any, response: Any, ask: Ask) -> Any:
    return await _whether(response, ask, "/v2/health/ready")


async def _server(_: Any, response: Any, ask: Ask) -> Any:
    return words.fill(await ask("GET", "/v2"), response)


async def _model_ready(request: Any, response: Any, ask: Ask) -> Any:
    return await _whether(response, ask, model_path(request.name, request.version, "ready"))


async def _whether(response: Any, ask: Ask, path: str) -> Any:
    """Answer whether something is ready: as in Triton, what is not there is not."""
    try:
        await ask("GET", path)
        response.ready = True
    except RequestError as error:
        if error.status not in (404, 503) or error.hint:  # 503 with a hint: the agent itself does not answer
            raise
    return response


async def _model(request: Any, response: Any, ask: Ask) -> Any:
    return words.fill(await ask("GET", model_path(request.name, request.version)), response)


async def _config(request: Any, response: Any, ask: Ask) -> Any:
    return words.fill({"config": await ask("GET", model_path(request.name, request.version, "config"))}, response)


async def _statistics(request: Any, response: Any, ask: Ask) -> Any:
    path = model_path(request.name, request.version, "stats") if request.name else "/v2/models/stats"
    return words.fill(await ask("GET", path), response)


async def _index(request: Any, response: Any, ask: Ask) -> Any:
    models = await ask("POST", "/v2/repository/index", {"ready": request.ready})
    return words.fill({"models": models}, response)


async def _load(request: Any, response: Any, ask: Ask) -> Any:
    response.model_name = await _control(request, ask, "load")
    response.isLoaded = True
    return response


async def _unload(request: Any, response: Any, ask: Ask) -> Any:
    response.model_name = await _control(request, ask, "unload")
    response.isUnloaded = True
    return response


async def _control(request: Any, ask: Ask, action: str) -> str:
    name = str(request.model_name or request.repository_name)
    path = model_path(name, "", action).replace("/v2/models/", "/v2/repository/models/", 1)
    await ask("POST", path, {"parameters": words.plain(request.parameters)})
    return name


async def _memory(request: Any, response: Any, ask: Ask) -> Any:
    regions = await ask("GET", _region(request.name, "status"))
    return words.fill({"regions": {each["name"]: each for each in regions}}, response)


async def _register(request: Any, response: Any, ask: Ask) -> Any:
    where = {"key": request.key, "offset": request.offset, "byte_size": request.byte_size}
    await ask("POST", _region(request.name, "register"), where)
    return response


async def _unregister(request: Any, response: Any, ask: Ask) -> Any:
    await ask("POST", _region(request.name, "unregister"))
    return response


def _region(name: str, action: str) -> str:
    return "/v2/systemsharedmemory/" + (f"region/{model_path(name, '').rpartition('/')[2]}/" if name else "") + action


CALLS: dict[str, Callable[[Any, Any, Ask], Awaitable[Any]]] = {
    "ServerLive": _live,
    "ServerReady": _ready,
    "ServerMetadata": _server,
    "ModelReady": _model_ready,
    "ModelMetadata": _model,
    "ModelConfig": _config,
    "ModelStatistics": _statistics,
    "RepositoryIndex": _index,
    "RepositoryModelLoad": _load,
    "RepositoryModelUnload": _unload,
    "SystemSharedMemoryStatus": _memory,
    "SystemSharedMemoryRegister": _register,
    "SystemSharedMemoryUnregister": _unregister,
}
