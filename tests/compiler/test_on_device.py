"""Verdicts on what a board measured, what is sent to it, and what is refused before anything is."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from skerry_compiler import foreign, remote, remote_judging
from skerry_compiler.cli import main
from skerry_compiler.data import Rows
from skerry_compiler.engines.candidate import Built, Draft
from skerry_compiler.errors import CompileError, UsageError
from skerry_compiler.fleet_client import Fleet, LostError, RefusedError
from skerry_contracts.bundle import Predicates, Signature, Variant
from skerry_contracts.device import Hardware
from skerry_contracts.evidence import Board, Verdict
from skerry_contracts.measuring import MAX_CANDIDATES, MeasuredCandidate, Outcome
from skerry_contracts.tensor import DType, TensorSpec
from skerry_targets import catalogue

PROFILE = catalogue.get("x86-64-v3")
FITS = Predicates("linux", "x86_64")
SIGNATURE = Signature((TensorSpec("x", DType.FP32, (1, 2)),), (TensorSpec("y", DType.FP32, (1, 2)),))
INPUTS = np.arange(16, dtype=np.float32).reshape(8, 1, 2)
ANSWERS = 2 * INPUTS
FIELD = remote_judging.Field(SIGNATURE, Rows((INPUTS,)), (ANSWERS,), PROFILE, "latency")
BOARD = Board(PROFILE.id, "b1", "a cpu", "0.1.0", 1_700_000_000, "ort-plain", "m1-0badcafe")
HARDWARE = Hardware(
    "linux",
    "x86_64",
    "a cpu",
    (),
    4,
    1 << 33,
    "glibc",
    "2.36",
    PROFILE.id,
    "0.1.0",
    {"native": "1", "onnxruntime": "1"},
)


def built(name: str, engine: str = "native", precision: str = "fp32", order: int = 1, memory: int = 1 << 20) -> Built:
    draft = Draft(name, engine, precision, FITS, memory, order)
    return Built(draft, Variant(name, engine, precision, {}, FITS, memory), {"library": bytes(100)})


def measured(name: str, own: int, other: int = 0, answers: np.ndarray = ANSWERS, **more: object) -> MeasuredCandidate:
    against = (other, other, other) if other else ()
    found = MeasuredCandidate(
        name,
        "native",
        "fp32",
        Outcome.MEASURED,
        against="ort-plain" if other else "",
        p50_ns=(own, own * 3, own),
        against_p50_ns=against,
        latency_p50_ms=own / 1e6,
        latency_p95_ms=own / 1e6,
        rss_bytes=10_000_000,
        runs=9,
        rows=len(answers),
        answers=answers.tobytes(),
    )
    return dataclasses.replace(found, **more)  # type: ignore[arg-type]  # passed through


def judge(*found: MeasuredCandidate, board: Board = BOARD) -> foreign.Outcome:
    sent = [built("ort-plain", "onnxruntime"), *(built(each.id) for each in found if each.id != "ort-plain")]
    return remote_judging.judge(
        FIELD, sent, {each.id: each for each in found}, {("late", "native", "fp32"): "no"}, board
    )


def test_the_fastest_of_those_that_pass_is_chosen_by_rounds_side_by_side() -> None:
    outcome = judge(measured("ort-plain", 3000), measured("slow", 2500, 3000), measured("quick", 1000, 3000))
    assert outcome.ranked[0] == "quick" and outcome.executed_on == "device" and outcome.board == BOARD
    by_id = {each.id: each for each in outcome.candidates}
    assert by_id["quick"].verdict is Verdict.CHOSEN and by_id["quick"].speed == 3.0, (
        "one disturbed round does not count"
    )
    assert by_id["late"].verdict is Verdict.UNMEASURED and outcome.original is not None
    assert any("b1" in note and "a cpu" in note for note in outcome.notes)


def test_what_is_slower_than_the_original_on_the_board_does_not_ship() -> None:
    outcome = judge(measured("ort-plain", 3000), measured("slow", 4000, 3000))
    assert {each.id: each.verdict for each in outcome.candidates}["slow"] is Verdict.SLOWER
    assert outcome.ranked == ("ort-plain",)


def test_without_the_original_there_nothing_is_slower_than_it() -> None:
    board = dataclasses.replace(BOARD, reference="first")
    found = {"first": measured("first", 1000), "other": measured("other", 2000, 1000, against="first")}
    outcome = remote_judging.judge(FIELD, [built("first"), built("other")], found, {}, board)
    assert outcome.ranked == ("first", "other") and outcome.original is None
    assert any("does not run there" in note for note in outcome.notes)


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Outcome.CRASHED, Verdict.FAILED),
        (Outcome.HUNG, Verdict.FAILED),
        (Outcome.NO_LOAD, Verdict.FAILED),
        (Outcome.TOO_LARGE, Verdict.TOO_LARGE),
        (Outcome.UNREACHED, Verdict.UNMEASURED),
    ],
)
def test_what_came_to_grief_on_the_board_is_a_verdict(outcome: Outcome, verdict: Verdict) -> None:
    bad = MeasuredCandidate("bad", "native", "fp32", outcome, "SIGSEGV")
    found = judge(measured("ort-plain", 3000), measured("good", 1000, 3000), bad)
    by_id = {each.id: each for each in found.candidates}
    assert by_id["bad"].verdict is verdict and "SIGSEGV" in by_id["bad"].reason and found.ranked[0] == "good"


@pytest.mark.parametrize(
    "lie",
    [ANSWERS + 1, np.full_like(ANSWERS, np.nan), np.full_like(ANSWERS, np.inf), np.concatenate([ANSWERS, ANSWERS])],
    ids=["wrong", "nan", "inf", "too-many"],
)
def test_a_board_that_answers_wrongly_ships_nothing(lie: np.ndarray) -> None:
    found = judge(measured("ort-plain", 3000), measured("liar", 10, 3000, lie))
    assert {each.id: each.verdict for each in found.candidates}["liar"] is Verdict.INACCURATE
    assert found.ranked == ("ort-plain",)


def test_answers_that_are_no_rows_are_refused() -> None:
    torn = dataclasses.replace(measured("torn", 10, 3000), answers=ANSWERS.tobytes()[:-3])
    found = judge(measured("ort-plain", 3000), torn)
    assert {each.id: each.verdict for each in found.candidates}["torn"] is Verdict.INACCURATE


def test_what_nothing_proves_is_not_chosen() -> None:
    unproven = dataclasses.replace(measured("large", 10, 3000), answers=None, rows=0)
    found = judge(measured("ort-plain", 3000), unproven)
    by_id = {each.id: each for each in found.candidates}
    assert by_id["large"].verdict is Verdict.UNMEASURED and "too large to be sent" in by_id["large"].reason


def test_a_board_that_measured_nothing_is_an_error() -> None:
    crashed = MeasuredCandidate("ort-plain", "onnxruntime", "fp32", Outcome.CRASHED)
    with pytest.raises(CompileError, match="b1 measured nothing: ort-plain: crashed on the board"):
        judge(crashed)


def test_the_original_is_the_yardstick_and_one_of_each_kind_goes_first() -> None:
    many = [built(f"native-{i}", order=i) for i in range(20)]
    everyone = [*many, built("native-int8", precision="int8", order=90), built("ort-plain", "onnxruntime", order=99)]
    sent, left_out = remote.chosen([*everyone, built("tvm", "tvm"), built("vast", memory=1 << 40)], HARDWARE, "b1")
    names = [each.variant.id for each in sent]
    assert names[:3] == ["ort-plain", "native-0", "native-int8"] and len(sent) == MAX_CANDIDATES
    assert "the engine tvm is not there" in left_out["tvm", "tvm", "fp32"]
    assert "memory" in left_out["vast", "native", "fp32"]
    with pytest.raises(CompileError, match="no candidate runs on b1"):
        remote.chosen([built("tvm", "tvm")], HARDWARE, "b1")


def test_a_fleet_is_named_by_flags_or_environment(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk1_a_b\n")
    found = remote.fleet_of(None, None, {"SKERRY_FLEET_URL": "http://f:1", "SKERRY_FLEET_KEY": str(key)})
    assert found == Fleet("http://f:1", "sk1_a_b") and "sk1_a_b" not in repr(found)
    for url, given, words in (
        (None, "sk1_a_b", "needs --fleet"),
        ("http://f:1", None, "needs --fleet-key"),
        ("ftp://f:1", "sk1_a_b", "is no address"),
        ("http://f:1", str(tmp_path / "none"), "cannot read"),
    ):
        with pytest.raises(UsageError, match=words):
            remote.fleet_of(url, given, {})


def test_wrong_flags_are_said_before_the_work_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SKERRY_FLEET_URL", "SKERRY_FLEET_KEY"):
        monkeypatch.delenv(name, raising=False)
    words = ["compile", str(tmp_path / "m.onnx"), "--target", "x86-64-v3", "--model", "m", "--version", "1"]
    words += ["--release", "1", "-o", str(tmp_path / "m.skerry"), "--quiet"]
    for more, said in (
        (["--on-device"], "needs --fleet URL"),
        (["--fleet", "http://f:1"], "--fleet is for --on-device"),
        (["--on-device", "No Name", "--fleet", "http://f:1"], "--on-device"),
    ):
        assert main([*words, *more]) == 2
        assert said in capsys.readouterr().err


@pytest.fixture
def answers() -> Iterator[tuple[str, list[tuple[int, bytes, dict[str, str]]], list[str]]]:
    """A server that answers as it is told, and remembers which keys it saw."""
    waiting: list[tuple[int, bytes, dict[str, str]]] = []
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            seen.append(self.headers.get("authorization", ""))
            self.rfile.read(int(self.headers["content-length"]))
            status, content, headers = waiting.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", waiting, seen
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_fleet_that_answers_oddly_is_an_error_in_one_line(
    answers: tuple[str, list[tuple[int, bytes, dict[str, str]]], list[str]],
) -> None:
    url, waiting, seen = answers
    fleet = Fleet(url, "sk1_a_b")
    refused = b'{"error": {"code": "x", "message": "this needs the role measurer", "hint": ""}}'
    for status, content, words in (
        (403, refused, "needs the role measurer"),
        (500, b"oops", "status 500"),
        (200, b"<html>", "is no JSON"),
    ):
        waiting.append((status, content, {}))
        with pytest.raises(RefusedError, match=words) as caught:
            fleet.post("/api/v1/leases", {})
        assert caught.value.hint
    waiting.append((302, b"", {"location": f"{url}/elsewhere"}))
    with pytest.raises(RefusedError):
        fleet.post("/api/v1/leases", {})
    assert len(seen) == 4, "the key goes nowhere else"
    with pytest.raises(LostError, match="no fleet at"):
        Fleet("http://127.0.0.1:9", "sk1_a_b").post("/x", {})
