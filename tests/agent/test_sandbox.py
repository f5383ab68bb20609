"""A hostile library in a real worker: what it tries is refused, and by which layer it would have been."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.agent import serving_parts as parts
from tests.agent.serving_parts import Parts, bundle, compiled, floats, tensor

from skerry_agent import sandbox
from skerry_agent.runtime import Runtime
from skerry_agent.spawn import import_roots
from skerry_agent.supervision import RuntimeConfig

DENIED = (errno.EPERM, errno.EACCES)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "secret").write_text("the fleet's key")
    return bundle(folder, compiled(folder))


def ask(toy: Parts, *what: float) -> tuple[list[float], str]:
    """Run the library once; return its outputs and the sandbox's layers."""

    async def body() -> tuple[list[float], str]:
        runtime = Runtime(RuntimeConfig(headroom_bytes=128 << 20))
        try:
            slot = await runtime.start("toy", toy.folder, toy.variant, toy.manifest)
            return floats((await runtime.infer("toy", [tensor(*what)])).outputs[0]), slot.sandbox
        finally:
            await runtime.close()

    return asyncio.run(body())


def test_every_layer_of_this_kernel_is_in_force(toy: Parts) -> None:
    _, layers = ask(toy, parts.SERVE)
    have = {"rlimits", "capabilities", "seccomp"}
    assert have <= {layer.partition(":")[0] for layer in layers.split()}
    assert set(sandbox.missing(layers)) <= {"landlock"}


@pytest.mark.parametrize(
    ("what", "attempts"), [(parts.FORK, 2), (parts.SOCKET, 2), (parts.WRITE, 3), (parts.EXEC, 1), (parts.KILL, 2)]
)
def test_attempts_are_refused(toy: Parts, what: int, attempts: int) -> None:
    outputs, _ = ask(toy, what)
    assert all(outputs[1 + i] in DENIED for i in range(attempts)), outputs
    assert (toy.folder / "secret").read_text() == "the fleet's key"


def test_files_outside_are_closed(toy: Parts) -> None:
    outputs, layers = ask(toy, parts.READ)
    if "landlock" in sandbox.missing(layers):
        pytest.skip("this kernel has no landlock: files are guarded by ownership only")
    assert all(number in DENIED for number in outputs[1:4]), outputs


def test_memory_is_bounded(toy: Parts) -> None:
    outputs, _ = ask(toy, parts.HOG)
    assert outputs[1] * 256 <= 256, "more than the headroom and the variant's share was given"


def test_onnxruntime_works_inside(tmp_path: Path) -> None:
    """Its library, threads and memory need more of the system than generated code: all of it must be on the list."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "toy",
        [helper.make_tensor_value_info("x", kind, [1, 4])],
        [helper.make_tensor_value_info("y", kind, [1, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    made = bundle(tmp_path, model.SerializeToString(), engine="onnxruntime")

    async def body(threads: int) -> list[float]:
        runtime = Runtime(RuntimeConfig(threads=threads))
        try:
            slot = await runtime.start("toy", tmp_path, made.variant, made.manifest)
            assert {"rlimits", "seccomp"} <= set(slot.sandbox.split())
            return floats((await runtime.infer("toy", [tensor(0, 1, 2, 3)])).outputs[0])
        finally:
            await runtime.close()

    assert asyncio.run(body(1)) == asyncio.run(body(2)) == [0, 2, 4, 6]


def test_the_shared_region_cannot_be_cut_short(toy: Parts) -> None:
    outputs, _ = ask(toy, parts.CUT)
    assert outputs[1] == 0


def test_a_worker_does_not_outlive_its_supervisor(toy: Parts, tmp_path: Path) -> None:
    """A supervisor that is killed while its model hangs: the worker, which reads nothing more, ends all the same."""
    script = f"""
import asyncio
from pathlib import Path
from tests.agent.serving_parts import HANG, bundle, tensor
from skerry_agent.runtime import Runtime
async def main():
    folder = Path({str(toy.folder)!r})
    toy = bundle(folder, (folder / {toy.variant.blobs["library"].sha256!r}).read_bytes())
    runtime = Runtime()
    slot = await runtime.start("toy", folder, toy.variant, toy.manifest)
    asked = asyncio.create_task(runtime.infer("toy", [tensor(HANG)]))
    await asyncio.sleep(0.1)
    print(slot.pid, flush=True)
    await asked
asyncio.run(main())
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        worker = int(supervisor.stdout.readline())
        supervisor.send_signal(signal.SIGKILL)
    for _ in range(3000):
        try:
            state = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # nobody collects it in some containers: it is dead all the same
            return
        os.sched_yield()
        subprocess.run(["sleep", "0.01"], check=True)
    pytest.fail("the worker lives on")


def test_the_interpreter_and_our_packages_are_readable() -> None:
    roots = import_roots()
    assert any((Path(root) / "skerry_agent" / "worker.py").exists() for root in roots)
    directories = sandbox.readable_directories(roots)
    assert set(roots) <= set(directories) and "/etc" not in directories
