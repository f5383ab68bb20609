"""The daemon's small parts: the reconcile loop, the trust children, and what is read from /proc and /sys."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from skerry_agent import health, services, this_device
from skerry_agent.errors import AgentError, ConfigError, NetworkError, TrustError
from skerry_agent.helper import TrustHelper
from skerry_contracts.device import Reason


def test_a_service_that_fails_is_started_again_and_all_end_with_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "RESTART_S", 0.0)

    async def main() -> list[str]:
        stop = asyncio.Event()
        seen: list[str] = []

        async def weak() -> None:
            seen.append("weak")
            if len(seen) < 4:
                raise AgentError("it broke")
            stop.set()

        async def strong() -> None:
            seen.append("strong")
            await stop.wait()

        running = lambda: not stop.is_set()  # noqa: E731
        await services.reconcile(
            [("weak", weak, running), ("strong", strong, running), ("never", weak, lambda: False)], stop
        )
        return seen

    assert asyncio.run(main()) == ["weak", "strong", "weak", "weak"]


def test_a_child_answers_is_kept_and_ends_when_idle(tmp_path: Path) -> None:
    async def main() -> None:
        helper = TrustHelper(tmp_path, idle_s=0.05)
        for _ in range(2):
            with pytest.raises(AgentError):
                await helper.call("sign", {"receipt": {}})
        (process,) = helper._all
        async with asyncio.timeout(30):
            await process.wait()
        await helper.close()

    asyncio.run(main())


def test_a_cancelled_call_kills_its_child(tmp_path: Path) -> None:
    async def main() -> None:
        listening = await asyncio.start_server(lambda *_: asyncio.sleep(60), "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        identity = {
            "fleet": f"http://127.0.0.1:{port}",
            "enrolment": {
                "tenant": "t",
                "device": "d",
                "certificate_pem": "",
                "broker_host": "h",
                "broker_port": 1,
                "download_token": "x",
            },
        }
        trust = {"tenant": "t", "ca_pem": "", "tuf_root": "", "director_keys_pem": []}
        (tmp_path / "identity").mkdir()
        (tmp_path / "identity/enrolment.json").write_text(json.dumps(identity))
        (tmp_path / "identity/trust.json").write_text(json.dumps(trust))
        helper = TrustHelper(tmp_path, idle_s=1.0)
        blob = {"sha256": "0" * 64, "size_bytes": 10}
        request = {"manifest": "", "blobs": [blob]}
        call = asyncio.create_task(helper.call("blobs", request, report=lambda *_: None))
        async with asyncio.timeout(30):
            while not helper._all:
                await asyncio.sleep(0.01)
        (process,) = helper._all
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert process.returncode is not None and not helper._all
        await helper.close()
        listening.close()
        await listening.wait_closed()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("reason", "kind"), [("network", NetworkError), ("unsigned", TrustError), ("no-space", AgentError)]
)
def test_a_childs_error_comes_back_as_what_it_was(reason: str, kind: type[AgentError]) -> None:
    from skerry_agent.helper import _error

    found = _error({"error": {"reason": reason, "detail": "words"}})
    assert isinstance(found, kind) and str(found) == "words"
    assert getattr(found, "reason", Reason.NETWORK) == Reason(reason)


def test_two_agents_never_share_a_root(tmp_path: Path) -> None:
    import os

    held = this_device.lock(tmp_path)
    with pytest.raises(ConfigError, match="already runs"):
        this_device.lock(tmp_path)
    os.close(held)
    os.close(this_device.lock(tmp_path))


def test_memory_and_temperature_are_read_or_left_out(tmp_path: Path) -> None:
    assert health.rss_bytes() > 1_000_000
    assert health.temperature_c(tmp_path) is None
    for i, text in enumerate(["41500", "38000", "rubbish", "999999999"]):
        zone = tmp_path / f"thermal_zone{i}"
        zone.mkdir()
        (zone / "temp").write_text(text)
    assert health.temperature_c(tmp_path) == 41.5


def test_the_memory_there_is_is_the_machines_or_the_tightest_groups(tmp_path: Path) -> None:
    assert health.memory_bytes() > 1 << 26 and 0 < health.available_share() <= 1
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    assert health.memory_bytes(proc, groups) == 0 and health.available_share(proc) == 1.0
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:  1000 kB\nMemAvailable: 250 kB\nHugePages_Total: 0\n")
    assert health.memory_bytes(proc, groups) == 1_024_000 and health.available_share(proc) == 0.25
    (proc / "self/cgroup").write_text("0::/system.slice/skerry.service\n")
    inner = groups / "system.slice/skerry.service"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    assert health.memory_bytes(proc, groups) == 1_024_000
    (groups / "system.slice/memory.max").write_text("512000\n")
    (tmp_path / "memory.max").write_text("1\n")  # above the root of all groups: none of them
    assert health.memory_bytes(proc, groups) == 512_000


def test_systemd_is_told_where_it_asks(tmp_path: Path) -> None:
    health.notify(None, "READY=1")
    health.notify(str(tmp_path / "nobody"), "READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        health.notify(str(tmp_path / "notify"), "READY=1")
        assert listening.recv(100) == b"READY=1"
