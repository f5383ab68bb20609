"""`skerry targets list|show|prove`: the boards a model can be compiled for, and how far each is proven."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence

from skerry_contracts import codec
from skerry_targets import catalogue, levels, page, profile, unreachable
from skerry_targets.errors import TargetError, UnknownTargetError
from skerry_targets.nearest import kilobytes
from skerry_targets.profile import Profile


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns 0 when done, 1 when refused, 2 on wrong usage."""
    if argv and argv[0] == "prove":  # proving needs the compiler, which a device has not
        done: int = importlib.import_module("skerry_compiler.proof.cli").main(argv[1:])
        return done
    parser = argparse.ArgumentParser(prog="skerry targets", description="The boards a model can be compiled for.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="all boards of the catalogue, and this machine")
    listing.add_argument("--family", help="only boards that run the same programs, such as linux-arm64")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.add_argument("--markdown", action="store_true", help="as a page (docs/boards.md)")
    verbs.add_parser("prove", help="compile, run and compare for boards: makes their evidence", add_help=False)
    showing = verbs.add_parser("show", help="everything about one board")
    showing.add_argument("target", help="an id from the list, host, or a TOML file of your own")
    showing.add_argument("--json", action="store_true", help="as JSON")
    arguments = parser.parse_args(argv)
    try:
        if arguments.verb == "list":
            print(page.text(), end="") if arguments.markdown else _list(arguments.family, as_json=arguments.json)
        else:
            _show(catalogue.get(arguments.target), as_json=arguments.json)
    except TargetError as error:
        print(f"skerry: error: {error}" + (f" ({error.hint})" if error.hint else ""), file=sys.stderr)
        return 1
    return 0


def _list(family: str | None, *, as_json: bool) -> None:
    profiles = [each for each in [*catalogue.load_all(), *_this_machine()] if family in (None, each.family)]
    if not profiles:
        known = ", ".join(sorted({each.family for each in catalogue.load_all()}))
        raise UnknownTargetError(f"no family {family!r:.40}", hint=f"there are {known}")
    if as_json:
        print(json.dumps([{**codec.to_plain(each), "level": levels.of(each)} for each in profiles]))
        return
    for each in sorted(profiles, key=lambda each: (each.family, each.id)):
        print(f"{each.id:24} {levels.of(each):9} {each.family:16} {each.title}")
    if family is None:
        print("\nknown, and out of reach:")
        for lost in unreachable.load():
            print(f"{lost.id:24} {lost.title}: {lost.reason}")


def _this_machine() -> list[Profile]:
    """Return this machine's own profile, where one fits it."""
    try:
        return [catalogue.get(catalogue.HOST)]
    except TargetError:
        return []


def _show(found: Profile, *, as_json: bool) -> None:
    if as_json:
        proof = levels.on_file(found.id)
        words = {"level": levels.of(found), "evidence": None if proof is None else codec.to_plain(proof)}
        print(json.dumps({**codec.to_plain(found), **words}))
        return
    abi, cpu, budget = found.abi, found.cpu, found.budget
    rows = {
        "id": found.id,
        "board": found.title,
        "family": found.family,
        "proven": _proven(found),
        "programs": f"{abi.os} {abi.machine}, {abi.elf_class}-bit, {abi.libc} {abi.libc_min} or later",
        "processor": f"{cpu.name}, {cpu.cores} cores",
        "vectors": f"{cpu.vector_registers} registers of {cpu.vector_bits} bits",
        "features": " ".join(cpu.features),
        "compiler": f"{found.toolchain.triple} -mcpu={cpu.compiler}",
        "budget": f"{_size(budget.artifact_bytes)} on disk, {_size(budget.memory_bytes)} of memory for a model",
        "emulator": f"{found.emulator.kind} {found.emulator.command} {found.emulator.machine}".strip(),
        "digest": profile.digest(found),
    }
    for model, (flash, ram) in levels.footprints(levels.on_file(found.id)).items():
        rows[model] = f"{kilobytes(flash)} of flash, {kilobytes(ram)} of memory"
    rows |= {"gpu": f"{found.gpu.name}, {found.gpu.arch}"} if found.gpu else {}
    rows |= {"also called": ", ".join(found.aliases)} if found.aliases else {}
    rows |= {"note": found.note} if found.note else {}
    for name, engine in found.engines.items():
        cap = "" if engine.opset_max is None else f", ONNX opset up to {engine.opset_max}, IR up to {engine.ir_max}"
        rows[f"engine {name}"] = f"{engine.version_min} or later, {' '.join(engine.precisions)}{cap}"
    for key, value in rows.items():
        print(f"{key:20} {value}")


def _size(count: int) -> str:
    return f"{count >> 20} MB" if count >= 1 << 20 else f"{count >> 10} kB"


def _proven(found: Profile) -> str:
    proof, reached = levels.on_file(found.id), levels.of(found)
    if proof is None:
        return f"{reached}: no evidence on file (skerry targets prove {found.id})"
    if proof.profile_sha256 != profile.digest(found):
        return f"{reached}: the evidence is of an older state of the profile (skerry targets prove {found.id})"
    tools = ", ".join(f"{name} {version}" for name, version in sorted(proof.tools.items()))
    return f"{reached}, {proof.date}, with {tools}"
