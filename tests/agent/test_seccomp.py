"""The filter's decisions, by a small interpreter of classic BPF; and its numbers, against the kernel's own headers."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_agent import seccomp
from skerry_agent.seccomp import ALLOW, EPERM, KILL, REFUSE

PID = 4242
X86_64, AARCH64 = 0xC000003E, 0xC00000B7


def decide(program: list[seccomp.Instruction], number: int, architecture: int, *arguments: int) -> int:
    """Run the filter on a struct seccomp_data and return its verdict."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    accumulator, at = 0, 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code == 0x54:
            accumulator &= k
        elif code == 0x15:
            at += yes if accumulator == k else no
        else:
            assert code == 0x06
            return k


def program(machine: str = "x86_64", *, threads: bool = False) -> list[seccomp.Instruction]:
    made = seccomp.program(machine, threads=threads, pid=PID)
    assert made is not None
    return made


@pytest.mark.parametrize(("machine", "architecture", "column"), [("x86_64", X86_64, 0), ("aarch64", AARCH64, 1)])
def test_listed_calls_pass_and_all_others_fail(machine: str, architecture: int, column: int) -> None:
    lines = program(machine)
    listed = {numbers[column] for numbers in seccomp.CALLS.values() if numbers[column] is not None}
    decided = (seccomp.CLONE3, seccomp.FCNTL, seccomp.PRLIMIT, seccomp.TGKILL, seccomp.IOCTL)
    special = {each[column] for each in (*decided, seccomp.OPENAT, seccomp.OPEN)}
    for number in range(600):
        if number in listed:
            assert decide(lines, number, architecture) == ALLOW
        elif number not in special:
            assert decide(lines, number, architecture, 1, 99) == REFUSE | EPERM, number


def test_another_machine_s_calls_kill() -> None:
    assert decide(program("x86_64"), 0, 0x40000003) == KILL  # 32-bit calls have other numbers
    assert decide(program("aarch64"), 63, X86_64) == KILL
    assert decide(program("x86_64"), 0x40000000, X86_64) == REFUSE | EPERM  # the x32 numbers


def test_arguments_decide() -> None:
    lines, many = program(), program(threads=True)
    thread, fork = 0x3D0F00, 0x11  # the flags of pthread_create and of fork
    assert decide(lines, 56, X86_64, thread) == REFUSE | EPERM
    assert decide(many, 56, X86_64, thread) == ALLOW
    assert decide(many, 56, X86_64, fork) == REFUSE | EPERM
    assert decide(many, 435, X86_64) == REFUSE | seccomp.ENOSYS
    assert decide(lines, 234, X86_64, PID) == ALLOW
    assert decide(lines, 234, X86_64, 1) == REFUSE | EPERM
    assert decide(lines, 72, X86_64, 3, 3) == ALLOW
    for command in (8, 10, 15):  # SETOWN, SETSIG, SETOWN_EX
        assert decide(lines, 72, X86_64, 3, command) == REFUSE | EPERM
    assert decide(lines, 302, X86_64, 0) == ALLOW and decide(lines, 302, X86_64, 1) == REFUSE | EPERM
    assert decide(lines, 16, X86_64, 0, 0x5401) == REFUSE | seccomp.ENOTTY


@pytest.mark.parametrize(
    ("machine", "architecture", "number", "before"),
    [("x86_64", X86_64, 2, (0,)), ("x86_64", X86_64, 257, (0, 0)), ("aarch64", AARCH64, 56, (0, 0))],
)
def test_files_open_to_be_read_only(machine: str, architecture: int, number: int, before: tuple[int, ...]) -> None:
    lines = program(machine)
    cloexec, directory, temporary = os.O_CLOEXEC, os.O_DIRECTORY, os.O_TMPFILE
    for flags in (os.O_RDONLY, cloexec, directory | cloexec, os.O_NOFOLLOW):
        assert decide(lines, number, architecture, *before, flags) == ALLOW
    for flags in (os.O_WRONLY, os.O_RDWR | cloexec, os.O_CREAT, os.O_TRUNC, temporary | os.O_RDWR, 3):
        assert decide(lines, number, architecture, *before, flags) == REFUSE | EPERM


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_every_input_comes_to_a_verdict(number: int, architecture: int, arguments: list[int]) -> None:
    verdicts = {ALLOW, KILL, REFUSE | EPERM, REFUSE | seccomp.ENOSYS, REFUSE | seccomp.ENOTTY}
    assert decide(program(threads=True), number, architecture, *arguments) in verdicts


def test_a_machine_without_a_filter_is_said_to_have_none() -> None:
    assert seccomp.program("riscv64", threads=False, pid=1) is None


@pytest.mark.parametrize(
    ("header", "column"),
    [("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0), ("/usr/include/asm-generic/unistd.h", 1)],
)
def test_the_numbers_are_the_kernel_s(header: str, column: int) -> None:
    if not Path(header).exists():
        pytest.skip("no kernel headers here")
    text = Path(header).read_text()
    found = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", text)}
    found |= {"newfstatat": found.get("newfstatat", found.get("fstatat", -1))}
    calls = dict(seccomp.CALLS) | {
        "clone": seccomp.CLONE,
        "clone3": seccomp.CLONE3,
        "fcntl": seccomp.FCNTL,
        "prlimit64": seccomp.PRLIMIT,
        "tgkill": seccomp.TGKILL,
        "ioctl": seccomp.IOCTL,
        "open": seccomp.OPEN,
        "openat": seccomp.OPENAT,
    }
    wrong = {
        name: numbers[column]
        for name, numbers in calls.items()
        if numbers[column] is not None and found.get(name) not in (numbers[column], None)
    }
    assert wrong == {}
    assert len(found) > 250
