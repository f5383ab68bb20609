"""Real parts for the serving tests: a C library that behaves or misbehaves as its input says, and bundles around it."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import struct
import subprocess
import sys
from pathlib import Path

from skerry_contracts.bundle import (
    Blob,
    Contract,
    Golden,
    Manifest,
    Predicates,
    Recipe,
    Signature,
    Variant,
)
from skerry_contracts.tensor import DType, Tensor, TensorSpec

# What the library does, chosen by the first input; everything else doubles the inputs.
SERVE, SEGFAULT, HANG, NAN, HOG, FORK, SOCKET, READ, WRITE, EXEC, KILL, FAIL, FORGE, SLOW, CUT = range(15)

SOURCE = r"""
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
const uint32_t skerry_abi = 1;
const uint64_t skerry_sizes[] = {1, 1, ELEMENTS * 4, ELEMENTS * 4};
static int tried(long result) { return result < 0 ? errno : 0; }
int32_t skerry_run(const void *const *inputs, void *const *outputs) {
  const float *x = inputs[0];
  float *y = outputs[0];
  for (int i = 0; i < ELEMENTS; i++) y[i] = FACTOR * x[i];
  switch ((int)x[0]) {
    case 1: *(volatile int *)8 = 1; break;
    case 2: for (volatile int i = 0;; i++) ;
    case 3: y[1] = NAN; break;
    case 4: { /* ask until refused; touch what is given */
      size_t got = 0; volatile char *p; /* volatile: a compiler may leave out memory that nobody reads */
      while (got < 64 && (p = malloc(256u << 20))) { for (size_t i = 0; i < (256u << 20); i += 4096) p[i] = 1; got++; }
      y[1] = got; break; }
    case 5: y[1] = tried(fork()); y[2] = tried(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); break;
    case 6: y[1] = tried(socket(AF_INET, SOCK_STREAM, 0)); y[2] = tried(socket(AF_UNIX, SOCK_STREAM, 0)); break;
    case 7: y[1] = tried(open("/etc/shadow", O_RDONLY)); y[2] = tried(open(SECRET, O_RDONLY));
            y[3] = tried(open("/proc/self/root/etc/shadow", O_RDONLY)); break;
    case 8: y[1] = tried(open(SECRET ".new", O_CREAT | O_WRONLY, 0600)); y[2] = tried(open(SECRET, O_WRONLY));
            y[3] = tried(unlink(SECRET)); break;
    case 9: { char *argv[] = {"sh", 0}; y[1] = tried(execv("/bin/sh", argv)); break; }
    case 10: y[1] = tried(kill(getppid() > 1 ? getppid() : 1, 0)); y[2] = tried(syscall(SYS_ptrace, 0, 0, 0, 0)); break;
    case 11: return 7;
    case 12: for (int fd = 3; fd < 200; fd++) { char lie[17] = {5, 99}; if (write(fd, lie, sizeof lie) > 0) break; }
    break; case 13: { struct timespec t = {0, (long)(x[1] * 1e6)}; nanosleep(&t, 0); break; } case 14: { int worst = 0;
    for (int fd = 3; fd < 200; fd++) if (ftruncate(fd, 0) == 0) worst = 1; y[1] = worst; break; }
  }
  return 0;
}
"""


def compiled(folder: Path, source: str = SOURCE, **defines: object) -> bytes:
    """Return the bytes of a shared library, built with the compiler at hand (gcc starts quicker than zig)."""
    values = {"ELEMENTS": 4, "FACTOR": 2, "SECRET": f'"{folder}/secret"', **defines}
    compiler = [shutil.which("gcc")] if shutil.which("gcc") else [sys.executable, "-m", "ziglang", "cc"]
    name = hashlib.sha256(repr((source, values)).encode()).hexdigest()[:12]
    (folder / f"{name}.c").write_text("#include <time.h>\n" + source)
    flags = [f"-D{key}={value}" for key, value in values.items()]
    built = folder / f"{name}.so"
    command = [*compiler, "-shared", "-fPIC", "-O1", "-w", *flags, "-o", str(built), str(folder / f"{name}.c")]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return built.read_bytes()


def put(folder: Path, data: bytes) -> Blob:
    """Keep bytes under their digest."""
    blob = Blob(hashlib.sha256(data).hexdigest(), len(data))
    (folder / blob.sha256).write_bytes(data)
    return blob


@dataclasses.dataclass(frozen=True)
class Parts:
    """A bundle on disk: blobs by digest in `folder`."""

    folder: Path
    manifest: Manifest

    @property
    def variant(self) -> Variant:
        return self.manifest.variants[0]


def bundle(
    folder: Path, library: bytes, *, version: str = "1", elements: int = 4, factor: float = 2, engine: str = "native"
) -> Parts:
    """Return a bundle of one native variant that multiplies by `factor`, with two golden vectors."""
    spec = TensorSpec("x", DType.FP32, (1, elements))
    out = TensorSpec("y", DType.FP32, (1, elements))
    rows = [[0.0, *(float(i + row) for i in range(elements - 1))] for row in range(2)]
    inputs = b"".join(struct.pack(f"<{elements}f", *row) for row in rows)
    outputs = b"".join(struct.pack(f"<{elements}f", *(factor * value for value in row)) for row in rows)
    role = "library" if engine == "native" else "model"
    variant = Variant(
        "native-fp32", engine, "fp32", {role: put(folder, library)}, Predicates("linux", "x86_64"), 1 << 20
    )
    manifest = Manifest(
        format=1,
        model="toy",
        version=version,
        release=1,
        target="host",
        signature=Signature((spec,), (out,), ("a", "b", "c", "d"), None, "y"),
        variants=(variant,),
        golden=Golden(2, put(folder, inputs), put(folder, outputs), 1e-6, 1e-6, True),
        contract=Contract(),
        baseline=(),
        recipe=Recipe("test", "0" * 64, "c", "host", "0" * 64),
    )
    return Parts(folder, manifest)


def tensor(*values: float, elements: int = 4) -> Tensor:
    """Return the toy's input; missing elements are 0."""
    return Tensor(
        "x", DType.FP32, (1, elements), struct.pack(f"<{elements}f", *values, *[0.0] * (elements - len(values)))
    )


def floats(output: Tensor) -> list[float]:
    """Return the elements of an FP32 tensor."""
    return list(struct.unpack(f"<{len(output.data or b'') // 4}f", output.data or b""))
