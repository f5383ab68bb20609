"""gRPC from a real daemon: with the settings a user gives it, through a kill and a restart, and not in its memory."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

grpc: Any = pytest.importorskip("grpc", reason="gRPC is an extra: pip install skerry[grpc]")

from tests.agent.fleet_site import Site  # noqa: E402  # after the skip
from tests.agent.grpc_parts import DEADLINE_S, call, toy_request  # noqa: E402
from tests.agent.test_agent_cli import packed  # noqa: E402

from skerry_agent import cli  # noqa: E402
from skerry_agent.errors import NetworkError  # noqa: E402
from skerry_agent.status import ask_status  # noqa: E402


def eventually(condition: Callable[[], Any], what: str) -> Any:
    end_s = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < end_s, f"never came true: {what}"
        time.sleep(0.02)
    return found


def serving(root: Path) -> dict[str, Any]:
    """Return what the daemon says of gRPC once it is served; empty before."""
    try:
        found: dict[str, Any] = ask_status(root / "run/api.sock").get("grpc", {})
    except NetworkError:
        return {}
    return found if found.get("serving") else {}


def test_a_daemon_serves_grpc_through_a_kill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, site = tmp_path / "device", Site(tmp_path / "fleet", time.time())
    enrol = ["enroll", "--root", str(root), "--fleet", site.url, "--claim", str(site.token), "--device", "d1"]
    assert cli.main(enrol) == 0 and cli.main(["import", str(packed(tmp_path)), "--root", str(root)]) == 0
    site.close()
    (root / "config.toml").write_text("grpc = true\ngrpc_port = 0\napi_token = true\n")
    command = [sys.executable, "-m", "skerry", "agent", "run", "--root", str(root)]
    daemon = subprocess.Popen(command)
    try:
        first = eventually(lambda: serving(root), "gRPC is served")
        daemon.kill()
        daemon.wait()
        eventually(lambda: not Path(f"/proc/{first['pid']}/exe").exists(), "the front is gone with its agent")
        daemon = subprocess.Popen(command)
        said = eventually(lambda: serving(root), "gRPC is served again")
        with grpc.insecure_channel(f"unix:{said['socket']}") as channel:
            answer = call(channel, "ModelInfer", toy_request(0, 1, 2, 3))
        assert list(answer.raw_output_contents) == [struct.pack("<4f", 0, 2, 4, 6)]
        assert answer.parameters["prediction_id"].string_param.startswith("d1/")
        token = (root / "run/api.token").read_text().strip()
        with grpc.insecure_channel(f"127.0.0.1:{said['port']}") as channel:
            with pytest.raises(grpc.RpcError, match="token"):
                call(channel, "ModelInfer", toy_request(0, 1, 2, 3))
            bearer = (("authorization", f"Bearer {token}"),)
            assert call(channel, "ModelInfer", toy_request(0, 1, 2, 3), metadata=bearer).outputs
        assert "cygrpc" not in Path(f"/proc/{daemon.pid}/maps").read_text()
        capsys.readouterr()
        assert cli.main(["status", "--root", str(root)]) == 0
        assert f"gRPC: at {said['socket']} and port {said['port']}" in capsys.readouterr().out
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(DEADLINE_S) == 0
    assert not (root / "run/grpc.sock").exists()
