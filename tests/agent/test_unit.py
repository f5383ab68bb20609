"""The systemd unit and the journal: what systemd itself says of the one, and the other's protocol read back."""

from __future__ import annotations

import logging
import re
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_agent import cli, journal, unit
from skerry_agent.errors import ConfigError

ANALYZE = shutil.which("systemd-analyze")
ROOTS = ["/var/lib/skerry", "/srv/a b/100%", "/root/skerry", '/opt/"x"']


@pytest.mark.parametrize("root", ROOTS)
def test_the_unit_is_well_formed(root: str) -> None:
    text = unit.render(Path(root), user="skerry")
    section, seen = "", set()
    for line in text.splitlines():
        if line.startswith("["):
            section = line
        elif line and not line.startswith("#"):
            name, equals, _ = line.partition("=")
            assert equals and re.fullmatch(r"[A-Z][A-Za-z]+", name) and section, line
            assert (section, name) not in seen, f"{name} is said twice"
            seen.add((section, name))
    assert {"[Unit]", "[Service]", "[Install]"} == {section for section, _ in seen}
    assert ("[Service]", "WatchdogSec") in seen and "Type=notify" in text and "OOMPolicy=continue" in text


@pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")
@pytest.mark.parametrize("root", ROOTS)
def test_systemd_takes_the_unit_and_finds_little_exposed(root: str, tmp_path: Path) -> None:
    path = tmp_path / "skerry-agent.service"
    path.write_text(unit.render(Path(root), user="root"))
    verified = subprocess.run([str(ANALYZE), "verify", str(path)], capture_output=True, text=True, check=False)
    assert verified.returncode == 0 and "skerry-agent" not in verified.stderr, verified.stderr
    command = [str(ANALYZE), "security", "--offline=true", "--no-pager", str(path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", found.stdout)
    if exposure is not None:  # older versions cannot review a file
        assert float(exposure[1]) < 3.0, found.stdout


def test_what_no_unit_can_say_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="user"):
        unit.render(Path("/var/lib/skerry"), user="a b\nExecStart=/bin/sh")
    with pytest.raises(ConfigError, match="unit file"):
        unit.render(Path("/srv/x\nExecStartPre=/bin/sh"), user="skerry")
    assert cli.main(["unit", "--root", str(tmp_path), "--user", "dev1"]) == 0
    out = capsys.readouterr().out
    assert "User=dev1" in out and f"{sys.executable} -m skerry agent run --root {tmp_path}" in out


def read_back(data: bytes) -> dict[str, str]:
    """Parse the native protocol, after its specification."""
    found, at = {}, 0
    while at < len(data):
        end = data.index(b"\n", at)
        line, at = data[at:end], end + 1
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            (length,) = struct.unpack_from("<Q", data, at)
            name, value = line, data[at + 8 : at + 8 + length]
            at += 8 + length
            assert data[at : at + 1] == b"\n"
            at += 1
        found[name.decode()] = value.decode()
    return found


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Z_]{0,10}", fullmatch=True), st.text(st.characters(exclude_categories=["Cs"]))
    )
)
@settings(derandomize=True, max_examples=200)
def test_whatever_is_said_is_read_back_as_it_was(values: dict[str, str]) -> None:
    assert read_back(journal.encode(values)) == values


def test_records_reach_the_journal_with_their_fields(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        handler = journal.JournalHandler(tmp_path / "journal")
        logger = logging.Logger("skerry.agent.guard")
        logger.addHandler(handler)
        logger.warning("toy: %s", "two\nlines", extra={"skerry_model": "toy"})
        found = read_back(listening.recv(100_000))
        assert (found["MESSAGE"], found["PRIORITY"], found["SKERRY_MODEL"]) == ("toy: two\nlines", "4", "toy")
        assert found["SYSLOG_IDENTIFIER"] == "skerry-agent" and found["CODE_FUNC"].startswith("test_records")
        try:
            raise ValueError("deep")
        except ValueError:
            logger.exception("x" * 100_000)
        assert len(read_back(listening.recv(200_000))["MESSAGE"]) == journal.MAX_VALUE_BYTES
    logger.error("nobody listens any more")  # and nothing is raised
    handler.close()
    with pytest.raises(OSError):
        journal.JournalHandler(tmp_path / "missing")


def test_only_a_stream_that_systemd_gave_goes_to_the_journal() -> None:
    assert not journal.started_by_systemd(None)
    assert not journal.started_by_systemd("1:2")
    assert not journal.started_by_systemd("rubbish")
