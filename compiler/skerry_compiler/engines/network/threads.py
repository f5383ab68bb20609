"""One inference on several threads: which operations are worth it, and the C by which threads share one.

The caller's own thread runs the operations in their order. One that is worth it lies in parts, and `ticket` says which
operation is at hand and how many of its parts nobody has taken yet. Any thread takes the next part by counting the
ticket down; who finishes one counts `done` up, and the caller's thread goes on once all are done. It takes parts like
the others: helpers that come late, or never, cost time and nothing else. A ticket holds all that a thread must know of
its part, so a count that succeeds is right however old the look at it was.

Every value is computed by one thread alone, in the same steps as by one thread for all: answers do not depend on who
took what.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.graph import Conv, Depthwise, Map, Matmul, Normalise, Op, Pool, Resize, Softmax

PATIENCE = 1 << 16  # pauses, a few milliseconds
LEAST_CYCLES = 4000  # a microsecond or two: below, waiting for each other costs more than it gains
PER_VALUE = {Map: 4.0, Normalise: 12.0, Resize: 8.0, Softmax: 24.0}  # estimated cycles for each vector
SHARED = (Conv, Matmul, Pool, *PER_VALUE)

HEAD = """\
/* `own` is memory of one thread; slot 0 is the caller's. */
#define own (arena + {own} + slot * {own_bytes})"""

TEXT = """\
static uint32_t ticket __attribute__((aligned(64))); /* number of an operation << 8 | parts to take; 0: no inference */
PUBLIC uint32_t skerry_ended __attribute__((aligned(64))); /* how many inferences are over */
static uint32_t done __attribute__((aligned(64)));
static uint8_t busy[{threads}]; /* whether somebody has the slot */
static int32_t (*rest)(void) __attribute__((aligned(64))); /* lets another thread have the processor, if given */

static void perform(uint32_t number, int part, int slot) {{
  switch (number) {{
{cases}
  }}
}}

static void breathe(uint32_t *count) {{
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
  int32_t (*const give)(void) = __atomic_load_n(&rest, __ATOMIC_RELAXED);
  if (++*count % 512 == 0 && give) give();
}}

/* Takes a part and does it, if there is one; returns whether there may be more. */
static int take(int slot) {{
  uint32_t seen = __atomic_load_n(&ticket, __ATOMIC_ACQUIRE);
  if (!(seen & 255)) return 0;
  if (__atomic_compare_exchange_n(&ticket, &seen, seen - 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {{
    perform(seen >> 8, (int)(seen & 255) - 1, slot);
    __atomic_fetch_add(&done, 1, __ATOMIC_RELEASE);
  }}
  return 1;
}}

static void share(uint32_t number, uint32_t parts) {{
  uint32_t waited = 0;
  __atomic_store_n(&done, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&ticket, number << 8 | parts, __ATOMIC_RELEASE);
  while (take(0)) {{}}
  while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) != parts) breathe(&waited);
}}

/* How many threads may take part, the caller's among them; `give` is called by those that wait (0: they only spin). */
PUBLIC int32_t skerry_threads(int32_t (*give)(void)) {{
  __atomic_store_n(&rest, give, __ATOMIC_RELAXED);
  return {threads};
}}

/* Helps until `turn` inferences are over; gives up where none begins for a while. Each thread that calls it has a slot
   of its own, from 1 to {threads} - 1. */
PUBLIC void skerry_help(int32_t slot, uint32_t turn) {{
  uint32_t waited = 0, idle = 0;
  if (slot < 1 || slot >= {threads} || __atomic_exchange_n(&busy[slot], 1, __ATOMIC_ACQUIRE)) return;
  while (idle < {patience} && (int32_t)(turn - __atomic_load_n(&skerry_ended, __ATOMIC_ACQUIRE)) > 0) {{
    if (take(slot)) continue;
    idle = __atomic_load_n(&ticket, __ATOMIC_RELAXED) ? 0 : idle + 1;
    breathe(&waited);
  }}
  __atomic_store_n(&busy[slot], 0, __ATOMIC_RELEASE);
}}"""
BEGIN = "  __atomic_store_n(&ticket, 1 << 8, __ATOMIC_RELEASE);"
END = """\
  __atomic_store_n(&ticket, 0, __ATOMIC_RELEASE);
  __atomic_fetch_add(&skerry_ended, 1, __ATOMIC_RELEASE);"""


def wanted(op: Op, machine: Machine) -> int:
    """Return how many threads are to share an operation: all, or one where it is small or of another kind."""
    worth = isinstance(op, SHARED) and cycles(op, machine) >= LEAST_CYCLES
    return machine.threads if worth else 1


def cycles(op: Op, machine: Machine) -> float:
    """Return the roughly estimated cycles of an operation on one thread."""
    if isinstance(op, Matmul):
        return math.prod(op.batch) * math.prod(op.size) / (2 * machine.lanes)
    if isinstance(op, Conv):
        sums = op.y.h * op.y.w * op.weight.size / machine.lanes
        return sums if isinstance(op, Depthwise) else sums / (8 if op.x.quant else 2)
    values = op.y.elements / machine.lanes
    if isinstance(op, Pool):
        return values * (4 + math.prod(op.kernel))
    return values * (PER_VALUE.get(type(op), 1.0) + len(op.steps))


def text(stages: Sequence[str], threads: int) -> str:
    """Return the C by which threads share stages: functions of (part, slot), numbered from 1."""
    cases = [f"    case {number}: {name}(part, slot); break;" for number, name in enumerate(stages, 1)]
    return TEXT.format(cases="\n".join(cases), threads=threads, patience=PATIENCE)
