"""The gRPC front as a process: who may ask, what hostile clients can do to it, and who looks after it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

grpc: Any = pytest.importorskip("grpc", reason="gRPC is an extra: pip install skerry[grpc]")

from tests.agent.grpc_parts import SCHEMA, Fronted, call, fronted, toy_request  # noqa: E402  # after the skip

from skerry_agent import behalf, fronting  # noqa: E402

Code = grpc.StatusCode
TOKEN = "a" * 43


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    with fronted(tmp_path_factory.mktemp("front"), token=TOKEN) as found:
        yield found


def test_the_socket_is_for_user_and_group_and_the_inner_one_for_nobody_else(served: Fronted) -> None:
    assert stat.S_IMODE((served.root / "run/grpc.sock").stat().st_mode) == 0o660
    assert stat.S_IMODE((served.root / "run/grpc").stat().st_mode) == 0o700


def test_who_comes_to_the_inner_socket_directly_is_refused(served: Fronted) -> None:
    with grpc.insecure_channel(f"unix:{served.root}/run/grpc/inner.sock") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "ServerLive", SCHEMA.messages["ServerLiveRequest"]())
    assert caught.value.code() == Code.PERMISSION_DENIED


def test_the_port_asks_for_the_token_and_the_socket_does_not(served: Fronted) -> None:
    assert served.call("ServerLive").live
    for scheme in ("Bearer", "bearer"):
        assert served.call("ServerLive", port=True, metadata=(("authorization", f"{scheme} {TOKEN}"),)).live
    wrong = ["", "Bearer", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer x{TOKEN}", f"Bearer {TOKEN}, Bearer x"]
    several = (("authorization", "Bearer x"), ("authorization", f"Bearer {TOKEN}"))
    for metadata in [(), *((("authorization", each),) for each in wrong), several]:
        code, words = served.refused("ServerLive", port=True, metadata=metadata)
        assert code == Code.UNAUTHENTICATED and "token" in words and TOKEN not in words


def test_only_the_front_speaks_for_others(served: Fronted) -> None:
    for said in ("", "x 0", f"{served.live.secret}x 0", "\xff 0", "0"):
        status, answer = served.live.http("GET", "/v2/systemsharedmemory/status", headers={behalf.HEADER: said})
        assert status == 403 and served.live.secret not in answer["error"]
    for uid, status in [("0", 200), ("4242", 200), ("-", 403), ("-1", 403), ("x", 403), ("²", 403)]:
        headers = {behalf.HEADER: f"{served.live.secret} {uid}"}
        assert served.live.http("GET", "/v2/systemsharedmemory/status", headers=headers)[0] == status


@pytest.mark.parametrize("name", ["ModelExplain", "CudaSharedMemoryStatus", "TraceSetting", "LogSettings", ""])
def test_what_is_not_offered_says_so(served: Fronted, name: str) -> None:
    with served.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SCHEMA.service}/{name}")(b"", timeout=60)
    assert caught.value.code() == Code.UNIMPLEMENTED and "offered: ServerLive" in caught.value.details()


def test_what_is_no_message_is_refused(served: Fronted) -> None:
    for data in (b"\xff" * 30, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x01\xff"):
        with served.channel() as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{SCHEMA.service}/ModelInfer")(data, timeout=60)
        assert caught.value.code() == Code.INVALID_ARGUMENT and "not a ModelInferRequest" in caught.value.details()
    with served.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(f"/{SCHEMA.service}/ServerLive")(iter(()), timeout=60)
    assert caught.value.code() == Code.INVALID_ARGUMENT and "needs a message" in caught.value.details()


def test_compressed_messages_are_not_taken(served: Fronted) -> None:
    request = toy_request(0, 0, 0, 0)
    request.raw_input_contents[0] = bytes(3 << 20)  # a few kB on the wire
    with served.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel, "ModelInfer", request, compression=grpc.Compression.Gzip)
    assert caught.value.code() in (Code.UNIMPLEMENTED, Code.INTERNAL)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 100, b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\x00\x00\x00\x00\x00" + bytes(100_000)],
)  # fmt: skip
def test_what_is_no_grpc_costs_its_own_connection(served: Fronted, data: bytes) -> None:
    starts = served.said["starts"]
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(served.said["socket"])
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
    assert served.call("ServerLive").live and served.said["starts"] == starts


def test_too_many_connections_are_closed_and_those_that_go_make_room(served: Fronted) -> None:
    held: list[socket.socket] = []

    def full() -> bool:
        for _ in range(60):  # those that say nothing for long are closed, and make room
            client = socket.socket(socket.AF_UNIX)
            client.connect(served.said["socket"])
            held.append(client)
        try:
            return bool(served.refused("ServerLive")[0] == Code.UNAVAILABLE)
        except AssertionError:
            return False

    try:
        served.until(full, "there is no room")
    finally:
        for client in held:
            client.close()
    served.until(lambda: _lives(served), "there is room again")


def test_a_flood_of_large_messages_is_refused_by_the_same_process(served: Fronted) -> None:
    request = toy_request(0, 0, 0, 0)
    request.raw_input_contents[0] = bytes(3_900_000)  # what a message may have, and the model does not take
    data, pid = request.SerializeToString(), served.said["pid"]
    codes: set[Any] = set()

    def flood() -> None:
        with served.channel() as channel:
            ask = channel.unary_unary(f"/{SCHEMA.service}/ModelInfer")
            codes.update(each.code() for each in [ask.future(data, timeout=60) for _ in range(16)])

    for _ in range(3):  # 750 MB in all
        threads = [threading.Thread(target=flood) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert codes == {Code.RESOURCE_EXHAUSTED}
    assert served.call("ServerLive").live and served.said["pid"] == pid


def _lives(served: Fronted) -> bool:
    try:
        return bool(served.call("ServerLive").live)
    except grpc.RpcError:
        return False


def test_it_is_started_again_when_it_ends_or_falls_silent(served: Fronted, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        starts = served.said["starts"]
        os.kill(served.said["pid"], number)
        served.until(lambda: served.said["starts"] > starts and served.said["serving"], "it is started again")  # noqa: B023
        assert served.call("ServerLive").live and served.degraded == {}
    monkeypatch.setattr(fronting, "SILENT_S", 0.1)
    starts = served.said["starts"]
    os.kill(served.said["pid"], signal.SIGKILL)
    served.until(lambda: served.said["starts"] > starts + 1, "one that says nothing is ended")
    assert "said nothing" in served.degraded.get("grpc", "said nothing")
    monkeypatch.undo()
    served.until(lambda: served.said["serving"] and not served.degraded, "it serves")


def test_a_taken_port_is_said_and_the_models_go_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with fronted(tmp_path, port=taken.getsockname()[1], until=False) as found:
            found.until(lambda: "grpc" in found.degraded, "the trouble is told")
            assert "cannot listen" in found.degraded["grpc"] and "--grpc-port" in found.degraded["grpc"]
            assert found.live.ask("GET", "/v2/models/toy/ready")[0] == 200


def test_without_the_extra_the_way_to_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fronting, "PACKAGES", ("no_such_package.at_all",))
    with fronted(tmp_path, until=False) as found:
        found.until(lambda: "grpc" in found.degraded, "the trouble is told")
        assert "pip install 'skerry[grpc]'" in found.degraded["grpc"] and not found.said["serving"]
        assert found.live.ask("GET", "/v2/models/toy/ready")[0] == 200


def test_the_supervisor_loads_no_grpc() -> None:
    script = (
        "import sys, skerry_agent.daemon; sys.exit(any(m.split('.')[0] in ('grpc', 'google') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
