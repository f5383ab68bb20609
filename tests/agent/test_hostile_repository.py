"""The update repository in the hands of somebody who means harm, or has not been heard of for long: a device's look."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from skerry_agent.errors import AgentError, NetworkError, TrustError
from skerry_agent.trust.listing import Listing
from skerry_agent.trust.repository import Memory
from skerry_agent.trust.transfer import Fleet
from skerry_contracts.device import Reason

NOW_S = 1_900_000_000.0
EXPIRES = dt.datetime.fromtimestamp(int(NOW_S), dt.UTC) + dt.timedelta(days=30)
ENDLESS = object()  # an answer that never ends
AWAY = object()  # an answer that sends to another host

Answer = bytes | object


class Forge:
    """A whole repository whose keys are all in one hand, served by HTTP; `answers` may be anything."""

    def __init__(self) -> None:
        self.signer = CryptoSigner.generate_ed25519()
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.delegated: dict[str, Metadata[Targets]] = {}
        self.targets = Metadata(Targets(expires=EXPIRES))
        root = Root(expires=EXPIRES, consistent_snapshot=True)
        for role in ("root", "targets", "snapshot", "timestamp"):
            root.add_key(self.signer.public_key, role)
        self.root = self._signed(Metadata(root))
        forge = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                forge.asked.append(self.path)
                answer = forge.answers.get(self.path.rpartition("/")[2])
                if answer is AWAY:
                    self.send_response(302)
                    self.send_header("Location", f"http://127.0.0.2:{self.server.server_port}{self.path}")  # type: ignore[attr-defined]  # an HTTPServer has it
                    self.end_headers()
                    return
                self.send_response(404 if answer is None else 200)
                self.end_headers()
                try:
                    while answer is ENDLESS:
                        self.wfile.write(b" " * 65536)
                    if isinstance(answer, bytes):
                        self.wfile.write(answer)
                except OSError:
                    pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def delegate(self, parent: Metadata[Targets], *roles: str) -> None:
        """Let a role hand every path on to others."""
        made = {role: DelegatedRole(role, [self.signer.public_key.keyid], 1, False, paths=["*/*"]) for role in roles}
        parent.signed.delegations = Delegations({self.signer.public_key.keyid: self.signer.public_key}, made)

    def publish(self) -> None:
        """Sign everything anew."""
        snapshot = Metadata(Snapshot(expires=EXPIRES, meta={"targets.json": MetaFile(1)}))
        for role, listed in {"targets": self.targets, **self.delegated}.items():
            snapshot.signed.meta[f"{role}.json"] = MetaFile(1)
            self.answers[f"1.{role}.json"] = self._signed(listed)
        self.answers["1.snapshot.json"] = self._signed(snapshot)
        self.answers["timestamp.json"] = self._signed(Metadata(Timestamp(expires=EXPIRES)))

    def _signed(self, metadata: Metadata[Root] | Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp]) -> bytes:
        metadata.sign(self.signer)
        return metadata.to_bytes()

    def look(self, folder: Path, path: str = "digits/x.json") -> bytes:
        """Ask as a device does."""
        fleet = Fleet(f"http://127.0.0.1:{self.server.server_port}", timeout_s=10.0)
        try:
            listing = Listing(fleet, folder, self.root, Memory({}, NOW_S), NOW_S)
            return listing.manifest(path, "0" * 64, 1)[0]
        finally:
            fleet.close()


@pytest.fixture
def forge() -> Iterator[Forge]:
    found = Forge()
    found.publish()
    yield found
    found.close()


def test_a_repository_that_lists_nothing_is_said_to(forge: Forge, tmp_path: Path) -> None:
    """And so the refusals below are for what is wrong in them."""
    with pytest.raises(TrustError) as caught:
        forge.look(tmp_path / "tuf")
    assert caught.value.reason == Reason.NOT_LISTED


@pytest.mark.parametrize("answer", [ENDLESS, AWAY, b" " * 9_000_000, b"", b"[" * 200_000, b"\xff" * 100])
@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_metadata_that_is_too_much_or_elsewhere_is_refused(
    forge: Forge, tmp_path: Path, name: str, answer: Answer
) -> None:
    forge.answers[name] = answer
    with pytest.raises(AgentError) as caught:
        forge.look(tmp_path / "tuf")
    assert isinstance(caught.value, (NetworkError, TrustError)) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert sum(path.endswith(name) for path in forge.asked) == 1, "a redirect is not followed, a refusal not repeated"
    forge.answers.pop(name)
    forge.publish()
    with pytest.raises(TrustError) as caught:
        forge.look(tmp_path / "tuf")
    assert caught.value.reason == Reason.NOT_LISTED, "what was refused left nothing behind"


def ring(forge: Forge) -> None:
    """targets -> a -> b -> a, each saying that the other knows."""
    forge.delegate(forge.targets, "a")
    for role, other in (("a", "b"), ("b", "a")):
        forge.delegated[role] = Metadata(Targets(expires=EXPIRES))
        forge.delegate(forge.delegated[role], other)


def chain(forge: Forge) -> None:
    """200 roles, each handing on to the next, the last of them with the answer."""
    forge.delegate(forge.targets, "r0")
    for number in range(200):
        forge.delegated[f"r{number}"] = Metadata(Targets(expires=EXPIRES))
        forge.delegate(forge.delegated[f"r{number}"], f"r{number + 1}")
    forge.delegated["r200"] = Metadata(Targets(expires=EXPIRES))
    forge.delegated["r200"].signed.targets["digits/x.json"] = TargetFile.from_data("digits/x.json", b"x", ["sha256"])


def fan(forge: Forge) -> None:
    """Every role hands on to all twenty of them."""
    names = [f"f{number}" for number in range(20)]
    forge.delegate(forge.targets, *names)
    for name in names:
        forge.delegated[name] = Metadata(Targets(expires=EXPIRES))
        forge.delegate(forge.delegated[name], *names)


@pytest.mark.parametrize("made", [ring, chain, fan])
def test_a_maze_of_delegations_has_an_end(forge: Forge, tmp_path: Path, made: Callable[[Forge], None]) -> None:
    made(forge)
    forge.publish()
    with pytest.raises(TrustError) as caught:
        forge.look(tmp_path / "tuf")
    assert caught.value.reason == Reason.NOT_LISTED
    assert len(forge.asked) < 50 and len(set(forge.asked)) == len(forge.asked)


def test_three_hundred_new_roots_are_walked(forge: Forge, tmp_path: Path) -> None:
    """A device that slept through them all is let in again, and walks its own copies of them from then on."""
    root = Metadata[Root].from_bytes(forge.root)
    for _ in range(300):
        root.signed.version += 1
        forge.answers[f"{root.signed.version}.root.json"] = forge._signed(root)
    fresh = CryptoSigner.generate_ed25519()
    root.signed.version += 1
    for role in ("targets", "snapshot", "timestamp"):
        root.signed.revoke_key(forge.signer.public_key.keyid, role)
        root.signed.add_key(fresh.public_key, role)
    forge.answers[f"{root.signed.version}.root.json"] = forge._signed(root)
    forge.signer = fresh  # what only who has heard of the last root believes
    forge.publish()
    for _ in range(2):
        with pytest.raises(TrustError) as caught:
            forge.look(tmp_path / "tuf")
        assert caught.value.reason == Reason.NOT_LISTED
    assert sum("root.json" in path for path in forge.asked) == 301 + 2
