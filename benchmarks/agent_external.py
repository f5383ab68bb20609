"""Checks of the agent that others wrote, unchanged (benchmarks/agent.py): how many there are, how many it passes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from benchmarks.agent_options import Options

HOUSE = Path(__file__).parents[1]
TRITON = ("tests/agent/test_triton_client.py", "tests/agent/test_triton_grpc.py")
CHECKOUT = "SKERRY_TUF_CONFORMANCE"


def triton(_: Options) -> dict[str, float]:
    """Return how many checks NVIDIA's clients make, and how many pass.

    Raises:
        RuntimeError: the clients are not here.
    """
    if importlib.util.find_spec("tritonclient") is None:
        raise RuntimeError("NVIDIA's client is not installed: pip install 'tritonclient[http,grpc]'")
    return _counted("triton", HOUSE, [*TRITON])


def tuf(_: Options) -> dict[str, float]:
    """Return how many checks the TUF conformance suite makes, and how many the update client passes.

    Raises:
        RuntimeError: the suite, or what it needs, is not here.
    """
    checkout = Path(os.environ.get(CHECKOUT, ""))
    if not os.environ.get(CHECKOUT) or not (checkout / "tuf_conformance").is_dir():
        raise RuntimeError(f"clone github.com/theupdateframework/tuf-conformance, and name its folder in {CHECKOUT}")
    if shutil.which("faketime") is None:
        raise RuntimeError("the suite sets clocks with faketime, which is not installed")
    command = f"{Path(sys.executable).with_name('skerry')} agent tuf-client"
    return _counted("tuf", checkout.absolute(), ["tuf_conformance", "--entrypoint", command])


def _counted(name: str, folder: Path, what: list[str]) -> dict[str, float]:
    """Run tests in a folder and count them; those that were skipped are not counted.

    Raises:
        RuntimeError: none ran.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-") as scratch:
        report = Path(scratch, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *what]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    tried = [each for each in cases if each.find("skipped") is None]
    if not tried:
        last = (ran.stdout + ran.stderr).strip().splitlines()[-1:]
        raise RuntimeError(f"no check ran: {' '.join(last)[:200]}")
    failed = [each for each in tried if each.find("failure") is not None or each.find("error") is not None]
    for each in failed:
        print(f"{name}: failed: {each.get('name')}", file=sys.stderr)
    return {f"{name}_checks": len(tried), f"{name}_passed": len(tried) - len(failed)}
