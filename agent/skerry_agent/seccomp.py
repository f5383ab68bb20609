"""The worker's system call filter: classic BPF, assembled by hand for x86-64 and AArch64 (man 2 seccomp;
linux/seccomp.h, filter.h).

An allow list: everything else fails with EPERM and the model goes on or gives up. Files open to be read only, so that
a kernel without Landlock still keeps them whole. `clone` passes only for threads, and
only where the engine was given more than one; `clone3` says ENOSYS, which makes the C library fall back to `clone`,
whose flags a filter can read.
"""

from __future__ import annotations

import ctypes
import os
import struct

EPERM, ENOTTY, ENOSYS = 1, 25, 38
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_CLONE_THREAD = 0x00010000
_FCNTL_HARMLESS = (
    0,
    1,
    2,
    3,
    1030,
    1034,
)  # DUPFD, GETFD, SETFD, GETFL, DUPFD_CLOEXEC, GET_SEALS: not SETOWN or SETSIG, which signal others

# name: (x86-64, AArch64); None where the machine has no such call. The first few are the ones of every inference.
CALLS: dict[str, tuple[int, int | None]] = {
    "read": (0, 63), "recvfrom": (45, 207), "write": (1, 64), "futex": (202, 98), "clock_gettime": (228, 113),
    "madvise": (28, 233),
    "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216), "brk": (12, 214),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "pread64": (17, 67), "writev": (20, 66), "dup": (32, 23),
    "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "statx": (332, 291), "getdents64": (217, 61), "getcwd": (79, 17), "mincore": (27, 232), "sched_yield": (24, 124),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_getres": (229, 114), "gettimeofday": (96, 169),
    "times": (100, 153),
    "getpid": (39, 172), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
    "getegid": (108, 177),
    "uname": (63, 160), "sysinfo": (99, 179), "getrusage": (98, 165), "getcpu": (309, 168), "getrandom": (318, 278),
    "sched_getaffinity": (204, 123), "membarrier": (324, 283), "rseq": (334, 293), "set_robust_list": (273, 99),
    "restart_syscall": (219, 128), "exit": (60, 93), "exit_group": (231, 94),
    "stat": (4, None), "lstat": (6, None), "access": (21, None), "readlink": (89, None),
}  # fmt: skip
# Calls that pass only with a certain argument, or fail with another number than EPERM.
CLONE, CLONE3, FCNTL, PRLIMIT, TGKILL, IOCTL = (56, 220), (435, 435), (72, 25), (302, 261), (234, 131), (16, 29)
OPEN, OPENAT = (2, None), (257, 56)
_WRITES = 0o3 | 0o100 | 0o1000  # O_ACCMODE, O_CREAT, O_TRUNC: the same numbers on both machines (asm-generic/fcntl.h)

# machine: (column above, AUDIT_ARCH of linux/audit.h)
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06  # LD|W|ABS, ALU|AND|K, JMP|JEQ|K, RET|K
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = (
    0,
    4,
    16,
)  # struct seccomp_data; both machines are little-endian: the low word comes first

Instruction = tuple[int, int, int, int]


def program(machine: str, *, threads: bool, pid: int) -> list[Instruction] | None:
    """Return the filter as (code, jump if true, jump if false, k), or None for a machine it is not written for.

    `threads`: the engine may start threads. `pid`: the one process it may signal (itself, for abort).
    """
    if machine not in MACHINES:
        return None
    column, architecture = MACHINES[machine]
    lines: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for numbers in CALLS.values():
        number = numbers[column]
        if number is not None:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, ALLOW)]
    lines += [(_EQUAL, 0, 1, CLONE3[column]), (_RETURN, 0, 0, REFUSE | ENOSYS)]
    lines += [(_EQUAL, 0, 1, IOCTL[column]), (_RETURN, 0, 0, REFUSE | ENOTTY)]
    lines += _where(FCNTL[column], 1, 0xFFFFFFFF, _FCNTL_HARMLESS)
    lines += _where(PRLIMIT[column], 0, 0xFFFFFFFF, (0, pid))
    lines += _where(TGKILL[column], 0, 0xFFFFFFFF, (pid,))
    lines += _where(OPENAT[column], 2, _WRITES, (0,))
    if machine == "x86_64":
        lines += _where(OPEN[0], 1, _WRITES, (0,))
    if threads:
        lines += _where(CLONE[column], 0, _CLONE_THREAD, (_CLONE_THREAD,))
    lines.append((_RETURN, 0, 0, REFUSE | EPERM))
    return lines


def _where(number: int, argument: int, mask: int, values: tuple[int, ...]) -> list[Instruction]:
    """Return the lines that allow a call only where (low word of an argument & mask) is one of the values."""
    body: list[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument), (_AND, 0, 0, mask)]
    for value in values:
        body += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, ALLOW)]
    body.append((_RETURN, 0, 0, REFUSE | EPERM))
    return [(_EQUAL, 0, len(body), number), *body]


def install(lines: list[Instruction]) -> None:
    """Put the filter on this process for good.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    # struct sock_fprog: u16 length, padding, pointer
    holder = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(code)))
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, holder, 0, 0) != 0:  # NO_NEW_PRIVS; SECCOMP, MODE_FILTER
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
