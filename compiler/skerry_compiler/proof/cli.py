"""`skerry targets prove T…`: make the evidence of boards, and say how far they are proven."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from skerry_compiler.errors import CompileError
from skerry_compiler.proof.cuda import prove as cuda
from skerry_compiler.proof.prove import prove
from skerry_contracts import codec
from skerry_targets import catalogue, levels
from skerry_targets.errors import TargetError
from skerry_targets.levels import Evidence, Kind, Level
from skerry_targets.profile import Profile


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns 0 where everything tried held, 1 where something did not, 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="skerry targets prove", description="Compile, run and compare for boards.")
    parser.add_argument("target", nargs="*", help="ids from `skerry targets list`, or TOML files of your own")
    parser.add_argument("--all", action="store_true", help="every board of the catalogue but graphics processors")
    parser.add_argument(
        "--gpu", action="store_true", help="on this machine's NVIDIA graphics processor; all of its kind"
    )
    parser.add_argument("--json", action="store_true", help="the evidence as JSON, a line a board")
    parser.add_argument("-o", dest="folder", type=Path, help="write ID.json into this folder")
    arguments = parser.parse_args(argv)
    if (bool(arguments.target) == arguments.all and not arguments.gpu) or (arguments.all and arguments.gpu):
        parser.error("name boards, or --all, or --gpu")
    try:
        wanted = _all() if arguments.all else [catalogue.get(each) for each in arguments.target]
        found = _on_device(wanted) if arguments.gpu else _anywhere(wanted)
        held = [_tell(*each, arguments.folder, as_json=arguments.json) for each in found]
    except (TargetError, CompileError, OSError) as error:
        hint = getattr(error, "hint", "")
        print(f"skerry: error: {error}" + (f" ({hint})" if hint else ""), file=sys.stderr)
        return 1
    return 0 if all(held) else 1


def _all() -> list[Profile]:
    return [each for each in catalogue.load_all() if each.family != "cuda"]


def _anywhere(wanted: Sequence[Profile]) -> Iterator[tuple[Profile, Evidence]]:
    for each in wanted:
        evidence = cuda.compiled(each, _say) if each.family == "cuda" else prove(each, _say)
        _say("")
        yield each, evidence


def _on_device(wanted: Sequence[Profile]) -> Iterator[tuple[Profile, Evidence]]:
    """Yield evidence from this machine's graphics processor; a board with one has a processor to prove, too."""
    for evidence in cuda.on_device(wanted, _say):
        profile = next((each for each in wanted if each.id == evidence.target), None) or catalogue.get(evidence.target)
        if profile.family != "cuda":
            base = prove(profile, _say)
            tools, checks = base.tools | evidence.tools, base.checks + evidence.checks
            evidence = dataclasses.replace(evidence, tools=tools, checks=checks)
        _say("")
        yield profile, evidence


def _say(words: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)


def _tell(profile: Profile, evidence: Evidence, folder: Path | None, *, as_json: bool) -> bool:
    reached = levels.level(profile, evidence)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        plain = json.dumps(codec.to_plain(evidence), indent=1, sort_keys=True, ensure_ascii=False)
        (folder / f"{profile.id}.json").write_text(plain + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps({"level": reached, **codec.to_plain(evidence)}), flush=True)
    else:
        _show(profile, evidence, reached)
    return all(each.held for each in evidence.checks)


def _show(profile: Profile, evidence: Evidence, reached: Level) -> None:
    print(f"{profile.id:22} {reached:9} {profile.title}")
    for each in evidence.checks:
        if not each.held or each.kind in (Kind.PARITY, Kind.REFUSAL):
            print(f"  {'ok' if each.held else 'NO':3} {each.kind:8} {each.model:18} {each.seen}")
    if not any(each.kind is Kind.LOAD for each in evidence.checks):
        print("  nothing here runs its programs: compiled and looked at, no more")
