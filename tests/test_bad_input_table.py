"""docs/bad-input.md names a test for each thing that must be refused or survived: list and tests are whole."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
PAGE = (HOUSE / "docs" / "bad-input.md").read_text()
NAMED = re.findall(r"(tests/[\w/]+\.py)::(\w+)", PAGE)
# What has to be on the page, in words of its rows.
AGENT = (
    "another device", "another machine, ABI", "older version", "same version with another hash", "a sequence again",
    "repository does not list", "nobody assigned", "cut short", "endless", "206", "redirect", "metadata beyond",
    "delegations", "300 changes", "link", "entry twice", "unknown entries", "bomb", "segfaults", "hangs", "leaks",
    "NaN", "ten times slower", "writes files", "forks", "1970", "2100", "an hour back", "full, read-only or broken",
    "each system call", "each block", "two agents", "SIGSTOP",
)  # fmt: skip
BROKER = (
    "foreign topics", "`#`", "`$share`", "a will", "foreign client id", "`/`, `+` or `#`", "empty topic", "65 000",
    "invalid UTF-8", "retained", "over the limit", "QoS 2", "10 000 subscriptions", "does not read", "no CONNECT",
    "server's certificate", "expired", "revoked", "3.1.1",
)  # fmt: skip
API = (
    "`%252e`", "NUL", "`file://`", "filter", "100 000 deep", "repeated keys", "NaN", "Infinity", "10^400",
    "lone surrogates", "1 GB", "slow body", "gzip bomb", "Content-Length", "negative, huge", "Range abuse",
    "concurrent PATCHes", "another body", "CSV formulas", "HTML", "SSRF", "another tenant",
)  # fmt: skip
TARGETS = (
    "unknown field", "unheard-of processor feature", "impossible budget", "sibling board", "newer glibc",
    "newer engine", "too big for the flash", "another machine's artifact", "weaker processor", "nobody signed",
)  # fmt: skip


@cache
def functions(path: str) -> set[str]:
    return {each.name for each in ast.walk(ast.parse((HOUSE / path).read_text())) if isinstance(each, ast.FunctionDef)}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_the_named_test_exists(path: str, name: str) -> None:
    assert name in functions(path)


def test_every_row_names_a_test_and_every_item_has_a_row() -> None:
    agent, rest = PAGE.split("## API")
    api, rest = rest.split("## Broker")
    broker, targets = rest.split("## Targets")
    for words, part, least in ((AGENT, agent, 18), (API, api, 16), (BROKER, broker, 18), (TARGETS, targets, 9)):
        rows = [line for line in part.splitlines() if line.startswith("| ") and not line.startswith("| what comes")]
        assert all("tests/" in row for row in rows) and len(rows) >= least
        assert [each for each in words if not any(each in row.split("|")[1] for row in rows)] == []
