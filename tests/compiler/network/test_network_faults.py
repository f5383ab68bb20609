"""Memory and undefined behaviour: generated C of every kind of processor that this machine is, under the address and
undefined-behaviour sanitizers of GCC. That another compiler takes the same text is proved beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest
from tests.compiler.network.isas import ISAS, Isa
from tests.compiler.network.test_network_isas import network
from tests.compiler.network.test_network_models import HARNESS

from skerry_compiler.engines.native.form import SHARED
from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.generate import generate, network_of

MARCH = {
    "sse2": ["-march=x86-64"],
    "avx2": ["-march=x86-64-v3"],
    "avx512-vnni": ["-march=x86-64-v4", "-mavx512vnni"],
}
CASES = [(isa, True) for isa in ISAS if isa.id in MARCH] + [(isa, False) for isa in ISAS if isa.id == "avx2"]


@pytest.mark.parametrize(("on", "in_bytes"), CASES, ids=lambda each: each.id if isinstance(each, Isa) else str(each))
def test_the_sanitizers_see_no_fault(on: Isa, in_bytes: bool, tmp_path: Any) -> None:
    if on.missing or not shutil.which("gcc"):
        pytest.skip(on.missing or "needs gcc")
    proto, feed = network()
    ranges = calibrate(network_of(proto), proto, [feed], "minmax") if in_bytes else None
    source = generate(proto, on.machine, ranges=ranges)
    (tmp_path / "model.c").write_text(source.c)
    (tmp_path / "main.c").write_text(HARNESS)
    (tmp_path / "weights.bin").write_bytes(source.weights)
    (tmp_path / "weights.S").write_text(SHARED.assembly(0))
    command = ["gcc", "-std=gnu11", "-O1", "-w", "-ffreestanding", "-fsanitize=address,undefined", *MARCH[on.id]]
    command += ["-fno-sanitize-recover=all", "-o", "program", "model.c", "main.c", "weights.S"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    ran = subprocess.run([tmp_path / "program"], capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
