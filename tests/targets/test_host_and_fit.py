"""This machine and others: which profile is theirs, and what they lack for a variant."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from skerry_contracts.bundle import Blob, Predicates, Variant
from skerry_contracts.device import Hardware
from skerry_targets import catalogue, fit, host, profile

PI = """processor : 0
BogoMIPS : 108.00
Features : fp asimd evtstrm crc32 cpuid
CPU implementer : 0x41
CPU architecture: 8
CPU variant : 0x0
CPU part : 0xd08
"""


def hardware(machine: str, *features: str, **changes: object) -> Hardware:
    facts = Hardware(
        "linux",
        machine,
        "cpu",
        features,
        4,
        1 << 30,
        "glibc",
        "2.31",
        "unknown",
        "0.1",
        {"native": "1", "onnxruntime": "1.20.0"},
    )
    return dataclasses.replace(facts, **changes)  # type: ignore[arg-type]  # fields by name


def test_this_machine_has_a_profile_it_fits() -> None:
    mine = host.host_profile()
    facts = host.hardware({"native": "1"}, "0.1")
    assert mine.id == f"host-{facts.profile}" and facts.profile in catalogue.ids()
    assert fit.missing(fit.predicates(mine), facts) == ()
    assert profile.check(mine) == []
    assert facts.memory_bytes > 0 and facts.machine == os.uname().machine


def test_a_board_is_known_by_its_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(PI)
    (tmp_path / "device-tree").mkdir()
    (tmp_path / "device-tree" / "compatible").write_bytes(b"raspberrypi,4-model-b\0brcm,bcm2711\0")
    cpu = host.cpu_info(tmp_path)
    facts = hardware("aarch64", *cpu.features)
    found = host.nearest(facts, cpu)
    assert found is not None and found.id == "raspberry-pi-4"
    for other in (
        dataclasses.replace(cpu, fields={**cpu.fields, "CPU part": "0xd0b"}),
        dataclasses.replace(cpu, compatible=("somebody,board",)),
        dataclasses.replace(cpu, compatible=()),
    ):
        found = host.nearest(facts, other)
        assert found is not None and found.id == "arm64"


@pytest.mark.parametrize(
    "isa, known",
    [
        ("rv64imafdc", ("a", "c", "d", "f", "m")),
        ("rv64gc_zba_zbb_sscofpmf", ("a", "c", "d", "f", "m", "zba", "zbb")),
        ("rv64imafdcv_zfh", ("a", "c", "d", "f", "m", "v", "zfh")),
        ("nonsense", ()),
    ],
)
def test_extensions_of_risc_v_are_read(isa: str, known: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nisa\t\t: {isa}\n")
    assert set(known) <= set(host.cpu_info(tmp_path).features)
    assert len(host.cpu_info(tmp_path).features) >= len(known)


def test_unreadable_proc_is_an_unknown_machine(tmp_path: Path) -> None:
    assert host.cpu_info(tmp_path).features == ()
    assert host.memory_bytes(tmp_path) == 0
    assert host.nearest(hardware("vax"), host.cpu_info(tmp_path)) is None


@pytest.mark.parametrize(
    "requires, said",
    [
        (Predicates("linux", "x86_64"), "made for x86_64"),
        (Predicates("windows", "aarch64"), "needs windows"),
        (Predicates("linux", "aarch64", ("asimddp", "fp")), "lacks asimddp"),
        (Predicates("linux", "aarch64", (), "musl"), "needs musl"),
        (Predicates("linux", "aarch64", (), "glibc", "2.36"), "needs glibc 2.36"),
        (Predicates("linux", "aarch64", (), None, None, "1.21"), "needs onnxruntime 1.21"),
    ],
)
def test_what_is_missing_is_said(requires: Predicates, said: str) -> None:
    variant = Variant("a", "onnxruntime", "fp32", {"model": Blob("0" * 64, 1)}, requires, 0)
    (sentence,) = fit.missing_for(variant, hardware("aarch64", "fp", "asimd"))
    assert said in sentence


def test_engine_and_memory_are_counted() -> None:
    requires = Predicates("linux", "aarch64", ("fp",), "glibc", "2.28", "1.18.0")
    good = Variant("a", "onnxruntime", "fp32", {"model": Blob("0" * 64, 1)}, requires, 1 << 20)
    facts = hardware("aarch64", "fp", "asimd")
    assert fit.fitting([good], facts) == (good,)
    assert "no" in fit.missing_for(good, dataclasses.replace(facts, engines={}))[0]
    assert "memory" in fit.missing_for(dataclasses.replace(good, memory_bytes=1 << 40), facts)[0]


@pytest.mark.parametrize(
    "version, least, older",
    [("1.9", "1.10", True), ("1.10", "1.9", False), ("2", "2.0.0", False), ("2.36", "2.36.1", True), ("x", "1", True)],
)
def test_versions_are_numbers(version: str, least: str, older: bool) -> None:
    assert fit.older(version, least) is older
