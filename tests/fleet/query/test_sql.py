"""A device query asks both databases what it says: held against plain Python over devices of every make."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session
from tests.fleet.conftest import HARDWARE, Bench
from tests.fleet.query.plain import Plain, means

from skerry_contracts.codec import encode
from skerry_fleet.group_queries import matching
from skerry_fleet.placement import DeviceShard
from skerry_fleet.query.reading import read
from skerry_fleet.query.words import FIELDS, OPERATORS, Sort
from skerry_fleet.tables import Bundle, Device, DeviceModel, DeviceState, Group, GroupMember

DATABASES = "both"
NOW = 1_800_000_000.0
WORDS = [
    "lab",
    "Lab",
    "l%b",
    "l_b",
    "la*b".replace("*", ""),
    "",
    "größe",
    "a'b",
    'q"t',
    "0",
    "hall 7",
    "\\",
    "é🦜",
    "lablab",
]
FEATURES = [(), ("avx2",), ("avx2", "fma"), ("neon", "dot'prod")]


def people(session: Session) -> dict[str, Plain]:
    """Fill the tables with devices that differ in everything; return what is known of each."""
    found = {}
    session.add(Group(tenant="default", name="lab"))
    for release, bundle in enumerate(("a" * 64, "b" * 64)):
        fields: dict[str, Any] = {"model": "digits", "version": str(release), "release": release, "target": "host"}
        session.add(Bundle(tenant="default", id=bundle, size_bytes=1, created_ms=0, manifest="{}", **fields))
    for number in range(36):
        name = f"{'camera' if number % 3 else 'Camera'}-{number}"
        word, other = WORDS[number % len(WORDS)], WORDS[(number * 5 + 2) % len(WORDS)]
        nul = "Cortex\0A" if number % 11 == 0 else f"cpu {word}"  # PostgreSQL takes no NUL apart
        engines = {"ort": f"1.{number % 4}"} if number % 2 else {}
        told = dataclasses.replace(
            HARDWARE,
            cpu=nul,
            cpu_features=FEATURES[number % 4],
            cores=10**30 if number == 35 else number % 5 - 1,
            memory_bytes=number << 30,
            profile=word,
            engines=engines,
        )
        tags = {} if number % 4 == 0 else {"site": word, "7": other} if number % 4 == 1 else {"site": other}
        made, seen, lost = int(NOW * 1000) - number * 3_600_000, int(NOW * 1000) - number * 1000, number % 7 == 0
        session.add(
            Device(
                tenant="default",
                name=name,
                hardware=encode(told).decode(),
                tags=json.dumps(tags),
                created_ms=made,
                claim=word,
            )
        )
        state: dict[str, Any] = {"online": number % 2 == 0, "silent": number % 5 == 0}
        state |= {"last_seen_ms": seen, "lost_ms": 5 * lost}
        session.add(DeviceState(tenant="default", name=name, **state))
        if number % 3:
            session.add(DeviceShard(tenant="default", device=name, shard=number % 3))
        runs: dict[str, Any] = {}
        if number % 2:
            runs = {"version": word, "bundle": ("a" if number % 4 == 1 else "c") * 64, "state": "serving"}
            session.add(DeviceModel(tenant="default", name=name, model="digits", **runs))
        if number % 6 == 0:
            session.add(GroupMember(tenant="default", group="lab", device=name))
        session.add(Device(tenant="other", name=name, hardware=encode(told).decode()))  # never anybody else's
        session.add(DeviceState(tenant="other", name=name))
        known = {each: getattr(told, each) for each in ("profile", "os", "machine", "libc", "agent_version", "cores")}
        known |= {"name": name, "cpu": nul.replace("\0", "\ufffd"), "feature": told.cpu_features, "tag": tags}
        known |= {"memory_bytes": told.memory_bytes, "engine": engines, "claim": word, "shard": number % 3}
        known |= {"group": ["lab"] if number % 6 == 0 else [], "lost": lost, "enrolled": made, "last_seen": seen}
        known |= {"online": state["online"], "silent": state["silent"]}
        known |= {
            each: {"digits": runs[of]} if runs else {}
            for each, of in (("model", "version"), ("bundle", "bundle"), ("state", "state"))
        }
        known["release"] = {"digits": 0} if number % 4 == 1 else {}
        found[name] = Plain(known)
    return found


@pytest.fixture
def crowd(bench: Bench) -> tuple[Bench, dict[str, Plain]]:
    with bench.fleet.database.write() as session:
        return bench, people(session)


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def values(sort: Sort) -> st.SearchStrategy[str]:
    if sort is Sort.WHOLE:
        return st.one_of(st.integers(-1, 6), st.sampled_from([3 << 30, 2**63 - 1])).map(str)
    if sort is Sort.FLAG:
        return st.sampled_from(["true", "false"])
    if sort is Sort.TIME:
        return st.sampled_from(
            ["now", "now-8s", "now-15m", "now-9h", "2027-01-15", "2027-01-15T07:30:00+02:00", "1999-12-31"]
        )
    words = [*WORDS, "avx2", "neon", "1.3", "Camera-9", "serving", "linux", "x86_64", "a" * 64, "cpu lab"]
    text = st.sampled_from(words)
    stars = st.sampled_from(["{}*", "*{}", "*{}*", "{}"])
    between = st.tuples(st.sampled_from(["c", "Ca", "la", "é"]), st.sampled_from(["b", "3", "", "🦜"])).map("*".join)
    return st.one_of(st.tuples(stars, text).map(lambda both: both[0].format(both[1])), between).map(quoted)


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(sorted(FIELDS)))
    field = FIELDS[name]
    keys = {"": [""], "model": [".digits", ".none"], "tag": [".site", ".7", ".none"], "engine": [".ort"]}
    chosen = draw(st.sampled_from(OPERATORS[field.sort]))
    wanted = values(field.sort)
    if name == "group":
        wanted = st.sampled_from(["lab", "la*", "*", "x*"])
    many = chosen in ("=in=", "=out=")
    value = f"({','.join(draw(st.lists(wanted, min_size=1, max_size=3)))})" if many else draw(wanted)
    return f"{name}{draw(st.sampled_from(keys[field.key]))}{chosen}{value}"


QUERIES = st.recursive(
    comparisons(),
    lambda inner: st.tuples(st.lists(inner, min_size=2, max_size=3), st.sampled_from([";", ",", " and ", " or "])).map(
        lambda both: f"({both[1].join(both[0])})"
    ),
    max_leaves=5,
)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(QUERIES)
def test_the_databases_find_what_plain_python_finds(crowd: tuple[Bench, dict[str, Plain]], query: str) -> None:
    bench, known = crowd
    wanted = sorted(name for name, device in known.items() if means(read(query), device, NOW))
    with bench.fleet.database.read() as session:
        assert matching(session, "default", query, NOW) == wanted
        some = sorted(known)[::5]
        assert sorted(matching(session, "default", query, NOW, some)) == sorted(set(some) & set(wanted))


def test_every_field_tells_devices_apart(crowd: tuple[Bench, dict[str, Plain]]) -> None:
    """A field that is the same for all would let a mistake in its SQL pass unseen."""
    _, known = crowd
    for name in sorted(FIELDS.keys() - {"os", "machine", "libc", "agent_version"}):
        key = {"tag": "site", "engine": "ort"}.get(name, "digits")
        assert len({str(device.of(name, key)) for device in known.values()}) > 1, name
