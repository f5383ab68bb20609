"""`skerry NOUN …`: a table of words and the packages that answer to them.

Packages are named as text and loaded when called, so that `skerry --help` costs no more than Python itself, a device
needs no server's libraries, and the floors of the house stay as they are.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

# word: (module with main(argv), whether the word itself is passed on, one line of help)
COMMANDS: dict[str, tuple[str, bool, str]] = {
    "compile": ("skerry_compiler.cli", True, "turn a trained model into the best artifact for a board, and prove it"),
    "bench": ("skerry_compiler.cli", True, "a bundle and its original side by side"),
    "run": ("skerry_compiler.cli", True, "run a bundle here, in the device's own runtime"),
    "bundle": ("skerry_compiler.cli", True, "show what is in a bundle, or verify that it is whole"),
    "targets": ("skerry_targets.cli", False, "the boards that are known, and how far each is proven"),
    "agent": ("skerry_agent.cli", False, "the device daemon: enroll, run, status"),
    "fleet": ("skerry_fleet.cli", False, "the manager and its command line"),
    "cloud": ("skerry_cloud.cli", False, "label, train, monitor, pipelines, lineage"),
    "sim": ("skerry_simulators.cli", False, "the real agent and fleet in a false world"),
    "images": ("skerry_simulators.images.cli", False, "container images of agent and fleet"),
    "demo": ("skerry_simulators.demo.cli", False, "the whole loop on this machine, from nothing"),
}


def usage() -> str:
    """Return the help text."""
    width = max(map(len, COMMANDS))
    rows = [f"  {word:<{width}}  {text}" for word, (_, _, text) in COMMANDS.items()]
    return "\n".join(["usage: skerry COMMAND …", "", *rows, "", "`skerry COMMAND --help` says more."])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0 (done), 1 (refused) or 2 (usage)."""
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()  # here, and not as Python ends, where nothing could be said about it
    except BrokenPipeError:  # the reader has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again when it ends
        return 1


def _run(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        version = importlib.import_module("importlib.metadata").version("skerry")
        print(f"skerry {version}")
        return 0
    if words[0] not in COMMANDS:
        near = importlib.import_module("difflib").get_close_matches(words[0], COMMANDS, n=1)
        hint = f"did you mean `skerry {near[0]}`?" if near else "`skerry --help` lists the commands"
        print(f"skerry: error: no command {words[0]!r} ({hint})", file=sys.stderr)
        return 2
    name, keeps_word, _ = COMMANDS[words[0]]
    try:
        module = importlib.import_module(name)
        result: int = module.main(words if keeps_word else words[1:])
    except ModuleNotFoundError as error:  # at the start, or where a command loads what only it needs
        if not error.name or error.name.startswith("skerry"):
            raise
        extra = name.split(".")[0].removeprefix("skerry_")
        hint = f"pip install 'skerry[{extra}]'"
        print(f"skerry: error: `skerry {words[0]}` needs the library {error.name} ({hint})", file=sys.stderr)
        return 1
    return result


if __name__ == "__main__":
    sys.exit(main())
