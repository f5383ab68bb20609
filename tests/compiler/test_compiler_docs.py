"""Every flag, objective and exit code of the compiler's commands stands in docs/compiler.md."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from skerry_compiler import errors, options
from skerry_compiler.errors import CompileError
from skerry_compiler.ranking import OBJECTIVES

DOCS = (Path(__file__).parents[2] / "docs" / "compiler.md").read_text()
NOTHING = dict.fromkeys(("compile", "bench", "run", "show", "verify", "web"), print)


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from parsers(each)


def test_every_flag_is_documented_and_has_a_line_of_help() -> None:
    found = list(parsers(options.parser(NOTHING)))
    assert len(found) == 8
    for parser in found:
        for action in parser._actions:
            flags = [each for each in action.option_strings if each not in ("-h", "--help")]
            assert all(f"`{each}" in DOCS or re.search(rf"[ (]{each}[ `]", DOCS) for each in flags), flags
            assert not flags or action.help, flags


def test_every_objective_and_exit_code_is_documented() -> None:
    assert all(f"`{each}`" in DOCS for each in OBJECTIVES)
    codes = {each.code for each in vars(errors).values() if isinstance(each, type) and issubclass(each, CompileError)}
    documented = {int(each) for each in re.findall(r"^\| (\d+) \|", DOCS, re.MULTILINE)}
    assert documented == codes | {0, 130}
    assert all(f"{code} " in options.parser(NOTHING).format_help() + str(options._CODES) for code in documented)
