"""What the tests need from the machine: a mark for each need, one place that knows how to meet it, and an honest last
line.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from skerry_compiler.proof.cuda import nvcc
from skerry_compiler.web import runtime
from skerry_simulators import mounts

# A machine may be slow, and a failure must come again: no deadline for one example, and the same examples each time.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


def _program(*names: str) -> bool:
    search = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
    return any(shutil.which(name, path=search) for name in names)


def models_folder() -> Path | None:
    """Return the folder of real models, or None where this checkout has none beside it."""
    folder = Path(os.environ.get("SKERRY_MODELS", Path(__file__).parents[2] / "shared" / "models"))
    return folder if folder.is_dir() else None


_no_blocks = mounts.missing()
_kernels = list(Path(os.environ.get("SKERRY_VM_KERNEL", "/"), "boot").glob("vmlinuz-*"))
# mark: (is it met here, how to meet it)
NEEDS = {
    "mosquitto": (_program("mosquitto"), "apt install mosquitto"),
    "browser": (_program("chromium", "chromium-browser", "google-chrome"), "apt install chromium"),
    "node": (_program("node"), "apt install nodejs"),
    "ortweb": (runtime.find() is not None, f"npm install {runtime.wanted()}"),
    "emulated": (_program("qemu-aarch64-static"), "apt install qemu-user-static"),
    "boards": (_program("qemu-system-arm"), "apt install qemu-system-arm"),
    "postgres": (_program("initdb") or any(Path("/usr/lib/postgresql").glob("*/bin/initdb")), "apt install postgresql"),
    "strace": (_program("strace"), "apt install strace"),
    "faketime": (_program("faketime"), "apt install faketime"),
    "root": (os.geteuid() == 0, "run as root"),
    "blocks": (
        not _no_blocks and _program("mkfs.ext4"),
        f"{_no_blocks or 'no e2fsprogs'}; docs/simulators.md says more",
    ),
    "machines": (bool(_kernels) and _program("qemu-system-x86_64"), "QEMU and SKERRY_VM_KERNEL: docs/simulators.md"),
    "docker": (_program("dockerd") and os.geteuid() == 0, "root, and apt install docker.io"),
    "gpu": (_program("nvidia-smi"), "run on a machine with an NVIDIA GPU"),
    "nvcc": (nvcc.find() is not None, "pip install nvidia-cuda-nvcc"),
    "models": (models_folder() is not None, "put the shared models beside the checkout, or name them in SKERRY_MODELS"),
}
# In CI only these may be missing: they depend on the machine, not on what can be installed.
MAY_BE_MISSING_IN_CI = {"gpu", "models", "blocks", "machines", "node", "ortweb", "docker", "nvcc"}

_skipped: Counter[str] = Counter()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers():
        met, remedy = NEEDS.get(mark.name, (True, ""))
        if met:
            continue
        if os.environ.get("CI") and mark.name not in MAY_BE_MISSING_IN_CI:
            pytest.fail(f"CI must not skip: {remedy}", pytrace=False)
        _skipped[mark.name] += 1
        pytest.skip(f"needs {mark.name}: {remedy}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _skipped:
        return
    terminalreporter.section("not tested here")
    for name, count in sorted(_skipped.items()):
        terminalreporter.write_line(f"{count} tests need {name}: {NEEDS[name][1]}")


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of real models; use together with `@pytest.mark.models`."""
    folder = models_folder()
    assert folder is not None
    return folder
