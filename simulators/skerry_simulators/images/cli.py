"""`skerry images build`: container images of agent and fleet, the same bytes on every machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry_simulators.errors import SimulatorError
from skerry_simulators.images.recipes import RECIPES

if TYPE_CHECKING:
    from skerry_simulators.images.archive import Image
    from skerry_simulators.images.engine import Engine


def cache() -> Path:
    """Return the folder in which packages and wheels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "skerry" / "images"


def main(argv: Sequence[str]) -> int:
    """Run one command; return 0 (done), 1 (refused) or 2 (usage)."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        return _build(arguments)
    except SimulatorError as error:
        _say("")
        print(f"skerry: error: {error}" + (f" ({error.hint})" if error.hint else ""), file=sys.stderr)
        return 1
    except OSError as error:
        _say("")
        print(f"skerry: error: {error.filename or 'files'}: {error.strerror} (choose another place)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skerry images", description="Container images of agent and fleet.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser(
        "build",
        help="build an image for one or more platforms, into a file or an engine",
        description="Build a container image from Debian's packages, the locked wheels and the skerry that runs here. "
        "No engine, root or emulator is needed; the same inputs give the same image id. Without --output it is loaded "
        "into the engine.",
    )
    build.add_argument("name", choices=sorted(RECIPES), help="which image")
    build.add_argument(
        "--platform",
        action="append",
        metavar="P",
        help="linux/amd64 or linux/arm64, again for both (this machine's)",
    )
    build.add_argument("-o", "--output", type=Path, metavar="FILE", help="write an archive that docker load reads")
    build.add_argument("--load", action="store_true", help="load it into the engine, too, where --output is given")
    build.add_argument("--engine", metavar="URL", help="the engine (DOCKER_HOST, or the usual socket)")
    build.add_argument("--tag", metavar="NAME:TAG", help="what to call it (skerry-NAME:VERSION-PLATFORM)")
    build.add_argument("--suite", default="trixie", metavar="S", help="Debian's suite (trixie)")
    build.add_argument("--cache", type=Path, metavar="DIR", help=f"where fetched files are kept ({cache()})")
    build.add_argument("--json", action="store_true", help="what was built, as JSON")
    return parser


def _build(arguments: argparse.Namespace) -> int:
    from skerry_simulators.images import binfmt, recipes

    platforms = list(dict.fromkeys(arguments.platform or [binfmt.native_platform()]))
    if arguments.tag and len(platforms) > 1:
        raise SimulatorError("one --tag cannot name two images", hint="build each --platform by itself")
    if arguments.tag:
        recipes.check_tag(arguments.tag)
    for each in platforms:
        recipes.check_platform(each)
    if arguments.output is not None and not arguments.output.absolute().parent.is_dir():
        raise SimulatorError(f"no folder {arguments.output.parent} for --output", hint="make it first")
    to_load = arguments.load or arguments.output is None
    loads = _engine(arguments.engine) if to_load else contextlib.nullcontext()
    with loads as found:
        return _make(arguments, platforms, found)


@contextlib.contextmanager
def _engine(named: str | None) -> Iterator[Engine]:
    """Yield the engine to load into: asked for before the work, so that nobody waits for a refusal."""
    from skerry_simulators.images import engine

    with contextlib.closing(engine.connect(named or os.environ.get("DOCKER_HOST") or engine.USUAL)) as found:
        yield found


def _make(arguments: argparse.Namespace, platforms: list[str], engine: Engine | None) -> int:
    from skerry_simulators.images import archive, recipes

    place = arguments.cache or cache()
    built = [
        recipes.build(
            arguments.name,
            platform,
            arguments.tag or recipes.tag_of(arguments.name, platform),
            place,
            _say,
            arguments.suite,
        )
        for platform in platforms
    ]
    packed = archive.pack(built)
    found = [_plain(each) for each in built]
    if arguments.output is not None:
        arguments.output.write_bytes(packed)
    if engine is not None:
        _say("loading")
        engine.load(packed)
    _say("")
    _show(found, arguments)
    return 0


def _plain(image: Image) -> dict[str, Any]:
    return {
        "tag": image.tag,
        "platform": image.platform,
        "id": image.id,
        "size_bytes": image.size_bytes,
        "layers": [{"digest": each.digest, "size_bytes": len(each.tar)} for each in image.layers],
        "labels": image.run["Labels"],
    }


def _show(found: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps({"images": found, "output": None if arguments.output is None else str(arguments.output)}))
        return
    for each in found:
        print(f"{each['tag']}  {each['platform']}  {each['size_bytes'] / 1e6:.1f} MB  {each['id']}")
    if arguments.output is not None:
        print(f"written to {arguments.output}; next: docker load -i {arguments.output}")


def _say(words: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)
