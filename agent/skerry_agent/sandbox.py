"""What a model may do to the device: compute, and nothing else. Layers, each useful alone, each reported where the
kernel lacks it.

    rlimits       address space (a model that asks for 6 GB gets NULL), no new processes, no file growth, no core dumps
    landlock      files: only the interpreter, the engine's libraries and this model's own blobs, read-only; no TCP; no
                  signals or abstract sockets outside (linux/landlock.h, ABI 1 to 7)
    capabilities  none, also for a worker of root
    seccomp       an allow list of system calls (seccomp.py)

Everything through ctypes: this runs inside every worker, before the model's code is mapped.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys

from skerry_agent import seccomp

LAYERS = ("rlimits", "landlock", "capabilities", "seccomp")

_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# The highest file right each Landlock ABI knows, as a bit count: REFER came with 2, TRUNCATE with 3, IOCTL_DEV with 5.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK_SINCE, _SCOPE_SINCE = 4, 6


def lock(
    *, directories: list[str], files: list[int], extra_bytes: int, threads: int, signal_parent_death: bool = True
) -> str:
    """Lock this process down and return the layers in force, as `rlimits landlock:7 capabilities seccomp`.

    `directories` may be read with all below them, `files` are descriptors that may be read (and opened again through
    /proc/self/fd); `extra_bytes` of address space may be added to what is mapped now. A missing layer is left out of
    the answer.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if signal_parent_death:
        libc.prctl(1, 9, 0, 0, 0)  # PDEATHSIG, SIGKILL: no worker outlives its supervisor
    done = []
    if _limit(extra_bytes, threads):
        done.append("rlimits")
    version = _landlock(libc, directories, files)
    if version:
        done.append(f"landlock:{version}")
    if _drop_capabilities(libc):
        done.append("capabilities")
    lines = seccomp.program(os.uname().machine, threads=threads > 1, pid=os.getpid())
    if lines is not None:
        try:
            seccomp.install(lines)
            done.append("seccomp")
        except OSError:
            pass  # reported by its absence
    return " ".join(done)


def missing(layers: str) -> tuple[str, ...]:
    """Return the layers that an answer of `lock` lacks.

    >>> missing("rlimits landlock:7 capabilities")
    ('seccomp',)
    """
    present = {layer.partition(":")[0] for layer in layers.split()}
    return tuple(layer for layer in LAYERS if layer not in present)


def _limit(extra_bytes: int, threads: int) -> bool:
    """Set the resource limits, and return whether they hold: an emulator may take one and forget it, as QEMU's user
    mode does with address space. Root is not bound by the number of processes: there seccomp alone refuses forks.
    """
    limits = {
        resource.RLIMIT_AS: _address_space_bytes() + extra_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: max(int(name) for name in os.listdir("/proc/self/fd")) + 16,  # noqa: PTH208 pathlib costs a megabyte
    }
    if threads == 1:
        limits[resource.RLIMIT_NPROC] = 0
    kept = True
    try:
        for kind, value in limits.items():
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
            kept = kept and resource.getrlimit(kind)[0] == value
    except (OSError, ValueError):
        return False
    return kept


def _address_space_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 pathlib costs a megabyte
        return int(file.read().split()[0]) * resource.getpagesize()


def _landlock(libc: ctypes.CDLL, directories: list[str], files: list[int]) -> int:
    """Restrict this process and return the Landlock version in force, 0 for none."""
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return 0
    rights = (1 << _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]) - 1
    fields = [rights]
    if version >= _NETWORK_SINCE:
        fields.append(3)  # BIND_TCP, CONNECT_TCP
    if version >= _SCOPE_SINCE:
        fields.append(3)  # ABSTRACT_UNIX_SOCKET, SIGNAL
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = libc.syscall(444, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return 0
    try:
        for path in directories:
            try:
                opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue  # not on this system
            with_directory = _READ_FILE | _READ_DIR if os.path.isdir(path) else _READ_FILE  # noqa: PTH112
            _allow(libc, ruleset, opened, with_directory)
            os.close(opened)
        for descriptor in files:
            _allow(libc, ruleset, descriptor, _READ_FILE)
        restricted: int = libc.prctl(38, 1, 0, 0, 0) or libc.syscall(446, ruleset, 0)
    finally:
        os.close(ruleset)
    return int(version) if restricted == 0 else 0


def _allow(libc: ctypes.CDLL, ruleset: int, descriptor: int, rights: int) -> None:
    # struct landlock_path_beneath_attr is packed. A failure means: not allowed, and the worker will say what it could
    # not open.
    libc.syscall(445, ruleset, 1, struct.pack("=Qi", rights, descriptor), 0)


def _drop_capabilities(libc: ctypes.CDLL) -> bool:
    """Give up every capability, effective, permitted and inheritable (man 2 capset, version 3 of its header)."""
    return bool(libc.capset(struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", 0, 0, 0, 0, 0, 0)) == 0)


def readable_directories(roots: list[str]) -> list[str]:
    """Return what every worker may read: the interpreter, system libraries, the CPU's description, `roots`."""
    standard = os.path.dirname(os.__file__)  # noqa: PTH120
    system = [
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/lib",
        "/lib64",
        "/etc/ld.so.cache",
        "/proc/cpuinfo",
        "/proc/meminfo",
    ]
    devices = ["/sys/devices/system/cpu", "/dev/null", "/dev/urandom"]
    prefix = [os.path.join(sys.base_prefix, "lib")]  # noqa: PTH118
    return [*roots, standard, *prefix, *system, *devices]
