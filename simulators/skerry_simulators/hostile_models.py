"""The hostile models: what each tries, in C, and how it must end. Built by the compiler's own pinned C compiler.

A library counts its tries with TRY(call): or TOLD(error number): `y[0]` holds how many, `y[1]` and on
the error number of each (0: granted).
"""

from __future__ import annotations

import dataclasses
import platform
import tempfile
from pathlib import Path

ELEMENTS = 24

# How one must end. The last four are the agent's own reasons (skerry_contracts.device.Reason).
REFUSED = "refused"  # every try fails, the model goes on and answers
ANSWERS = "answers"  # it hurts nobody but itself, and is answered for
CRASHED, TIMEOUT, UNHEALTHY, LOAD = "crashed", "timeout", "unhealthy", "load"


@dataclasses.dataclass(frozen=True, slots=True)
class Hostile:
    """One hostile model. `code` runs in an inference; `load` is C outside of functions, in a library of its own.

    `needs`: the layer of the sandbox without which nothing refuses it.
    """

    name: str
    tries: str
    ends: str
    code: str = ""
    load: str = ""
    needs: str = ""


HEAD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#define DONE(counter, elapsed) do { unsigned char f[17] = {5}; uint64_t c = counter, e = elapsed; \
  memcpy(f + 1, &c, 8); memcpy(f + 9, &e, 8); say(f, sizeof f); } while (0)
#define TRY(call) do { errno = 0; int no = (long)(call) < 0 ? errno : 0; TOLD(no); } while (0)
#define TOLD(no) do { \
  if (tries < ELEMENTS - 1) y[++tries] = (no); y[0] = tries; } while (0)
#define SYS(name, ...) TRY(syscall(SYS_##name, ##__VA_ARGS__))
#ifdef __x86_64__
#define X86 1
#else
#define X86 0
#endif
static volatile int zero, sink;
static int say(const void *frame, size_t size) {  /* to whichever descriptor takes it: the socket */
  for (int fd = 3; fd < 64; fd++) if (write(fd, frame, size) > 0) return 1;
  return 0;
}
static void spin(void) { for (;;) sink++; }
static int deep(int n) { volatile char page[4096]; page[n & 4095] = 1; return deep(n + 1) + page[0]; }
static void *rest(void *p) { for (;;) pause(); }
"""

TAIL = r"""
#ifndef OTHER_ABI
#define OTHER_ABI 1
#endif
#ifndef SAYS_INPUTS
#define SAYS_INPUTS 1
#endif
#ifndef NO_ENTRY
const uint32_t skerry_abi = OTHER_ABI;
const uint64_t skerry_sizes[] = {SAYS_INPUTS, 1, ELEMENTS * 4, ELEMENTS * 4};
int32_t skerry_run(const void *const *inputs, void *const *outputs) {
  const float *x = inputs[0];
  float *y = outputs[0];
  int tries = 0, boss = x[1];
  for (int i = 0; i < ELEMENTS; i++) y[i] = 0;
  switch ((int)x[0]) {
CASES
  }
  return 0;
}
#endif
"""


def source(each: Hostile, table: tuple[Hostile, ...]) -> str:
    """Return the C of one that acts while it loads, or of all those that act in an inference."""
    if each.load:
        return HEAD + each.load + TAIL.replace("CASES", f"default: {{ {each.code} }}")
    bodies = [f"case {number}: {{ {row.code} break; }}" for number, row in enumerate(table) if not row.load]
    return HEAD + TAIL.replace("CASES", "\n".join(bodies))


def build(each: Hostile, table: tuple[Hostile, ...], outside: Path) -> bytes:
    """Return the library; `outside` is the folder that it must not touch.

    Raises:
        skerry_compiler.errors.CompileError: no compiler, or it refuses the source.
    """
    if each.load.startswith("not a library"):
        return each.load.encode()
    from skerry_compiler.engines.native.build import run

    with tempfile.TemporaryDirectory(prefix="skerry-hostile-") as made:
        folder = Path(made)
        (folder / "model.c").write_text(source(each, table))
        target = f"{platform.machine()}-linux-gnu"
        values = [f"-DELEMENTS={ELEMENTS}", f'-DOUTSIDE="{outside}"']
        flags = ["-target", target, "-shared", "-fPIC", "-O1", "-w", "-fno-sanitize=all", "-fno-stack-protector"]
        run([*flags, *values, "-o", "model.so", "model.c"], folder)
        return (folder / "model.so").read_bytes()
