"""`skerry agent tuf-client`: the words and exit codes that the public TUF conformance suite drives a client by."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.agent.fleet_site import Site
from tests.agent.world import Bundle, make_bundle

from skerry_agent.cli import main
from skerry_agent.trust.tuf_client import MEMORY
from skerry_contracts import codec
from skerry_contracts.assignment import target_path
from skerry_contracts.enrolment import Trust


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path / "fleet", time.time())
    yield found
    found.close()


@pytest.fixture
def bundle(site: Site) -> Bundle:
    made = make_bundle()
    site.publish("digits", made.data, made.blobs)
    return made


class Client:
    """The command, as a harness calls it."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder, self.downloads = site, folder / "metadata", folder / "downloads"
        self.root = folder / "root.json"
        self.root.write_bytes(codec.decode(Trust, site.office.trust_document).tuf_root)

    def __call__(self, *words: str) -> int:
        return main(["tuf-client", "--metadata-dir", str(self.folder), *words])

    def refresh(self) -> int:
        return self("--metadata-url", f"{self.site.url}/tuf/metadata", "refresh")

    def download(self, name: str) -> int:
        urls = ["--metadata-url", f"{self.site.url}/tuf/metadata", "--target-base-url", f"{self.site.url}/tuf/targets"]
        return self(*urls, "--target-name", name, "--target-dir", str(self.downloads), "download")


@pytest.fixture
def client(site: Site, tmp_path: Path) -> Client:
    return Client(site, tmp_path)


def test_a_listed_target_is_downloaded_whole(client: Client, bundle: Bundle) -> None:
    name = target_path("digits", bundle.id)
    assert client("init", str(client.root)) == 0
    assert client.refresh() == 0
    assert client.download(name) == 0
    assert [each.name for each in client.downloads.iterdir()] == [quote(name, "")]
    assert (client.downloads / quote(name, "")).read_bytes() == bundle.data
    assert client.download(name) == 0, "again is no error"


def test_what_is_not_listed_is_refused(client: Client, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert client("init", str(client.root)) == 0
    assert client.download("digits/other.json") == 1
    assert "is not listed" in capsys.readouterr().err


def test_versions_once_seen_are_remembered_beside_the_metadata(
    client: Client, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client("init", str(client.root)) == 0
    assert client.refresh() == 0
    memory = json.loads((client.folder / MEMORY).read_bytes())
    memory["floors"] = {role: version + 1 for role, version in memory["floors"].items()}
    (client.folder / MEMORY).write_text(json.dumps(memory))
    for file in client.folder.rglob("*.json"):
        file.unlink()
    assert client.refresh() == 1
    assert "older than" in capsys.readouterr().err
    assert json.loads((client.folder / MEMORY).read_bytes())["floors"] == memory["floors"], "a floor never falls"


@pytest.mark.parametrize("words", [["refresh"], ["--metadata-url", "http://127.0.0.1:1/", "refresh"]])
def test_a_client_without_a_root_or_a_repository_says_what_is_missing(
    client: Client, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert client(*words) == 1
    assert capsys.readouterr().err.startswith("skerry: error: ")


def test_no_network_is_refused_and_changes_nothing(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert client("init", str(client.root)) == 0
    before = (client.folder / MEMORY).read_bytes()
    client.site.url = "http://127.0.0.1:1"
    assert client.refresh() == 1
    assert "check the address" in capsys.readouterr().err
    assert json.loads((client.folder / MEMORY).read_bytes())["floors"].get("timestamp", 0) == 0 and before == b"{}"
