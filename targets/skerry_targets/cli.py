"""`skerry targets list|show T`: the boards a model can be compiled for."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from skerry_contracts import codec
from skerry_targets import catalogue, profile
from skerry_targets.errors import TargetError
from skerry_targets.profile import Profile


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns 0 when done, 1 when refused, 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="skerry targets", description="The boards a model can be compiled for.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="all boards of the catalogue, and this machine")
    listing.add_argument("--json", action="store_true", help="as JSON")
    showing = verbs.add_parser("show", help="everything about one board")
    showing.add_argument("target", help="an id from the list, host, or a TOML file of your own")
    showing.add_argument("--json", action="store_true", help="as JSON")
    arguments = parser.parse_args(argv)
    try:
        if arguments.verb == "list":
            _list(as_json=arguments.json)
        else:
            _show(catalogue.get(arguments.target), as_json=arguments.json)
    except TargetError as error:
        print(f"skerry: error: {error}" + (f" ({error.hint})" if error.hint else ""), file=sys.stderr)
        return 1
    return 0


def _list(*, as_json: bool) -> None:
    profiles = [*catalogue.load_all(), catalogue.get(catalogue.HOST)]
    if as_json:
        print(json.dumps([codec.to_plain(each) for each in profiles]))
        return
    for each in profiles:
        words = f"{each.abi.machine:8} {each.cpu.vector_bits:3}-bit vectors  {', '.join(each.engines):20}"
        print(f"{each.id:20} {words} {each.emulator.kind:10} {each.title}")


def _show(found: Profile, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(codec.to_plain(found)))
        return
    abi, cpu, budget = found.abi, found.cpu, found.budget
    rows = {
        "id": found.id,
        "board": found.title,
        "family": found.family,
        "programs": f"{abi.os} {abi.machine}, {abi.elf_class}-bit, {abi.libc} {abi.libc_min} or later",
        "processor": f"{cpu.name}, {cpu.cores} cores",
        "vectors": f"{cpu.vector_registers} registers of {cpu.vector_bits} bits",
        "features": " ".join(cpu.features),
        "compiler": f"{found.toolchain.triple} -mcpu={cpu.compiler}",
        "budget": f"{budget.artifact_bytes >> 20} MB on disk, {budget.memory_bytes >> 20} MB of memory for a model",
        "emulator": f"{found.emulator.kind} {found.emulator.command}".strip(),
        "digest": profile.digest(found),
    }
    for name, engine in found.engines.items():
        cap = "" if engine.opset_max is None else f", ONNX opset up to {engine.opset_max}, IR up to {engine.ir_max}"
        rows[f"engine {name}"] = f"{engine.version_min} or later, {' '.join(engine.precisions)}{cap}"
    for key, value in rows.items():
        print(f"{key:20} {value}")
