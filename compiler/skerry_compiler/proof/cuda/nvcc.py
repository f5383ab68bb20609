"""CUDA source to a cubin, the machine code of one compute capability, by NVIDIA's compiler where it is installed."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

from skerry_compiler.errors import LimitError, ToolError

VARIABLE = "SKERRY_NVCC"
WHEEL = "nvidia-cuda-nvcc"
HINT = f"pip install skerry[cuda], or name one in {VARIABLE}; it needs g++, too"
TIME_LIMIT_S = 300


@functools.cache
def find() -> Path | None:
    """Return nvcc's path: what the environment names, the wheel's, or that on PATH; None where there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        files = []
    wheels = [Path(str(each.locate())) for each in files if each.as_posix().endswith("/bin/nvcc")]
    found = shutil.which("nvcc")
    return next((each for each in (*wheels, *([Path(found)] if found else [])) if each.is_file()), None)


def version() -> str:
    """Return nvcc's version.

    Raises:
        ToolError: there is none, or it says no version.
    """
    said = re.search(r"\bV(\d+(?:\.\d+)+)", _run(["--version"], Path.cwd()))
    if said is None:
        raise ToolError("nvcc says no version", hint=HINT)
    return said[1]


def capabilities() -> tuple[str, ...]:
    """Return what nvcc makes code for, such as sm_90.

    Raises:
        ToolError: there is no nvcc, or it does not run.
    """
    return tuple(re.findall(r"^sm_\d+$", _run(["--list-gpu-code"], Path.cwd()), re.MULTILINE))


def cubin(source: str, arch: str) -> bytes:
    """Return the machine code of CUDA source: an ELF file for one compute capability (sm_90).

    Raises:
        ToolError: there is no nvcc, it makes nothing for this capability, or it refuses the source.
        LimitError: it takes too long.
    """
    known = capabilities()
    if arch not in known:
        raise ToolError(
            f"nvcc {version()} makes no code for {arch}",
            hint=f"it does for {', '.join(known)}; older ones need an older",
        )
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        (folder / "model.cu").write_text(source)
        _run(["-cubin", f"-arch={arch}", "-O3", "-std=c++17", "-o", "model.cubin", "model.cu"], folder)
        return (folder / "model.cubin").read_bytes()


def _run(arguments: list[str], folder: Path) -> str:
    path = find()
    if path is None:
        raise ToolError("nvcc is not installed here", hint=HINT)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TMPDIR": str(folder)}
    try:
        done = subprocess.run(
            [str(path), *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise LimitError(f"nvcc took more than {TIME_LIMIT_S} s") from error
    except OSError as error:
        raise ToolError(f"nvcc does not start: {error.strerror}", hint=HINT) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        first = next((line for line in said if "error" in line or "fatal" in line), said[-1] if said else "")
        raise ToolError(f"nvcc failed with code {done.returncode}: {first[:200]}", hint=HINT)
    return done.stdout
