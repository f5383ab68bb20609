"""The agent's update client for any TUF repository, as a command: init, refresh, download.

The same `Repository` that updates devices, so that the public conformance suite of The Update Framework can be run
against it: the words and exit codes are that suite's (0 done, 1 refused). Beside the metadata, the folder keeps the
pinned first root and what must never be forgotten: the highest versions seen and the latest time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from skerry_agent.disk import RealDisk, replace_file
from skerry_agent.errors import AgentError, ConfigError

PINNED = ".pinned-root"
MEMORY = ".memory"
MAX_TARGET_BYTES = 1 << 30


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--metadata-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--metadata-url", metavar="URL")
    parser.add_argument("--target-name", action="append", default=[], metavar="NAME")
    parser.add_argument("--target-base-url", metavar="URL")
    parser.add_argument("--target-dir", type=Path, metavar="DIR")
    words = parser.add_subparsers(dest="word", required=True, metavar="init|refresh|download")
    words.add_parser("init", help="trust this root first").add_argument("root", type=Path)
    words.add_parser("refresh", help="fetch and verify the metadata")
    words.add_parser("download", help="fetch and verify targets")


def run(arguments: argparse.Namespace) -> int:
    """Do what the words say and return 0.

    Raises:
        AgentError: refused, with the reason.
    """
    folder: Path = arguments.metadata_dir
    if arguments.word == "init":
        return _init(folder, arguments.root)
    if not arguments.metadata_url:
        raise ConfigError("no repository", hint="name it: --metadata-url URL")
    client = _Client(folder, arguments.metadata_url, arguments.target_base_url or "")
    if arguments.word == "refresh":
        client.refresh()
        return 0
    if arguments.target_dir is None or not arguments.target_base_url or not arguments.target_name:
        raise ConfigError(
            "nothing to download", hint="download needs --target-name, --target-base-url and --target-dir"
        )
    client.download(arguments.target_name, arguments.target_dir)
    return 0


def _init(folder: Path, root: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    disk = RealDisk(folder)
    try:
        data = root.read_bytes()
    except OSError as error:
        raise ConfigError(f"{root}: {error.strerror}", hint="give the repository's first root.json") from error
    replace_file(disk, PINNED, data)
    replace_file(disk, MEMORY, b"{}")
    replace_file(disk, "root.json", data)
    return 0


class _Client:
    """One look at a repository, whose memory is kept whatever comes of it."""

    def __init__(self, folder: Path, metadata_url: str, target_url: str) -> None:
        self._disk = RealDisk(folder)
        from skerry_agent.trust.repository import Memory, Repository

        root, memory = self._disk.read(PINNED), self._disk.read(MEMORY)
        if root is None or memory is None:
            raise ConfigError(f"{folder} has no pinned root", hint="skerry agent tuf-client --metadata-dir DIR init F")
        plain = json.loads(memory)
        self._memory = Memory(plain.get("floors", {}), float(plain.get("clock_s", 0.0)))
        self._wall_s = time.time()
        self._repository = Repository(folder, root, self._memory, self._wall_s, (metadata_url, target_url), _download)

    def refresh(self) -> None:
        try:
            self._repository.refresh()
        finally:
            self._remember()

    def download(self, names: list[str], folder: Path) -> None:
        self.refresh()
        for name in names:
            target = self._repository.find(name)
            if target is None:
                raise AgentError(f"{name} is not listed")
            folder.mkdir(parents=True, exist_ok=True)
            self._repository.download(target, folder / quote(name, ""))
        self._remember()

    def _remember(self) -> None:
        """Write the floors down: versions never fall, nor does the time."""
        versions = self._repository.versions()
        floors = {role: max(version, self._memory.floors.get(role, 0)) for role, version in versions.items()}
        plain = {"floors": {**self._memory.floors, **floors}, "clock_s": max(self._wall_s, self._memory.clock_floor_s)}
        replace_file(self._disk, MEMORY, json.dumps(plain, sort_keys=True).encode())


def _download(url: str) -> Iterator[bytes]:
    from skerry_agent.trust.transfer import Fleet

    parts = urlsplit(url)
    fleet = Fleet(f"{parts.scheme}://{parts.netloc}")
    try:
        yield from fleet.stream(urlunsplit(("", "", parts.path, parts.query, "")), max_bytes=MAX_TARGET_BYTES)[1]
    finally:
        fleet.close()


def main() -> int:
    """Run the command by itself, for harnesses that want one program."""
    parser = argparse.ArgumentParser(prog="skerry agent tuf-client", description=__doc__)
    add_words(parser)
    try:
        return run(parser.parse_args())
    except AgentError as error:
        print(f"skerry: error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
