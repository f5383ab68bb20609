"""A supervisor of its own process that runs hostile models, one after another, beside one that behaves.

Started by hostile.py; says one JSON line when it begins a model and one when the model is over. Should a model end it,
the missing second line tells.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import hashlib
import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

from skerry_agent.errors import RequestError, WorkerError
from skerry_agent.runtime import Runtime
from skerry_agent.sandbox import missing
from skerry_agent.supervision import RuntimeConfig, SlotEvent
from skerry_contracts.bundle import Blob, Contract, Golden, Manifest, Predicates, Recipe, Signature, Variant
from skerry_contracts.device import Reason
from skerry_contracts.tensor import DType, Tensor, TensorSpec
from skerry_simulators.hostile_models import ANSWERS, ELEMENTS, LOAD, REFUSED, Hostile
from skerry_simulators.hostile_table import TABLE

_SLACK_BYTES = 64 << 20
_CONFIG = RuntimeConfig(deadline_s=1.5, load_s=4.0, headroom_bytes=128 << 20)


def main() -> int:
    """Run the models named in the plan (argv: its folder, the good library's blob, JSON of name to blob)."""
    folder, good, plan = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    asyncio.run(serve(folder, good, plan))
    return 0


async def serve(folder: Path, good: str, plan: dict[str, str]) -> None:
    """Run the models named in the plan (name to blob), in the table's order, beside one that doubles its input."""
    events: list[SlotEvent] = []
    runtime = Runtime(_CONFIG, events.append)
    try:
        await _start(runtime, "good", folder, good)
        most_bytes = _resident_bytes() + _SLACK_BYTES
        for number, each in enumerate(TABLE):
            if each.name in plan:
                events.clear()
                print(json.dumps({"begun": each.name}), flush=True)
                trial = _Trial(runtime, folder, events, number, each, most_bytes)
                print(json.dumps({"over": each.name, **await trial.run(plan[each.name])}), flush=True)
    finally:
        await runtime.close()


class _Trial:
    """One hostile model, from its start to what is left of it."""

    def __init__(
        self, runtime: Runtime, folder: Path, events: list[SlotEvent], number: int, each: Hostile, most_bytes: int
    ) -> None:
        self._runtime, self._folder, self._events = runtime, folder, events
        self._number, self._each, self._most_bytes = number, each, most_bytes
        self._outside = folder / "outside"
        self.wrong: list[str] = []

    async def run(self, blob: str) -> dict[str, Any]:
        """Return how it ended, in the words of the table, why, and what was wrong (nothing: it was survived)."""
        before = self._surroundings()
        slot, pid, why = None, 0, ""
        good = asyncio.create_task(self._keep_asking())
        await asyncio.sleep(0)
        begin_s = time.perf_counter()
        try:
            slot = await _start(self._runtime, "hostile", self._folder, blob)
            pid = slot.pid or 0
            if self._each.needs and self._each.needs in missing(slot.sandbox):
                ended, why = "skipped", f"this kernel has no {self._each.needs}"
            else:
                ended, why = await self._provoke()
        except WorkerError as error:
            ended, why = LOAD if error.reason is Reason.LOAD else error.reason.value, str(error)
        good.cancel()
        await asyncio.gather(good, return_exceptions=True)
        seconds = time.perf_counter() - begin_s
        self._judge(ended, why)
        layers = slot.sandbox if slot is not None else ""
        await self._runtime.stop("hostile")
        await self._ask_good("after it")
        slot = None
        self._compare(before, pid)
        return {"ended": ended, "why": why, "wrong": self.wrong, "seconds": round(seconds, 2), "layers": layers}

    async def _provoke(self) -> tuple[str, str]:
        begin_s = time.perf_counter()
        try:
            asked = [_tensor(float(self._number), float(os.getpid()))]
            given = await self._runtime.infer("hostile", asked)
        except WorkerError as error:
            return error.reason.value, str(error)
        except RequestError as error:
            return "unavailable", str(error)
        took_ms = 1e3 * (time.perf_counter() - begin_s)
        if not 0 <= given.latency_ms <= took_ms:
            self.wrong.append(f"its own word of {given.latency_ms:.3g} ms was believed, it took {took_ms:.3g}")
        values = struct.unpack(f"<{ELEMENTS}f", given.outputs[0].data or b"")
        if self._each.ends != REFUSED:
            return ANSWERS, f"answered in {took_ms:.0f} ms"
        numbers = [int(value) for value in values[1 : 1 + int(values[0])]]
        granted = [index + 1 for index, number in enumerate(numbers) if number == 0]
        names = sorted({os.strerror(number) for number in numbers if number})
        if granted or not numbers:
            return "granted", f"of {len(numbers)} tries number {granted} was granted"
        return REFUSED, f"{len(numbers)} tries: {', '.join(names)}"

    def _judge(self, ended: str, why: str) -> None:
        if ended not in (self._each.ends, "skipped"):
            self.wrong.append(f"it should have ended as {self._each.ends}, and ended as {ended}: {why}")
        if not why.isprintable() or len(why) > 1200:
            self.wrong.append("the reason is not one printable line")
        told = {event.reason.value for event in self._events if event.slot == "hostile"}
        if ended not in (ANSWERS, REFUSED, LOAD, "skipped", *told):
            self.wrong.append("no event told of its end")
        if any(event.slot == "good" for event in self._events):
            self.wrong.append("the other model had trouble")

    async def _keep_asking(self) -> None:
        while True:
            await self._ask_good("beside it")
            await asyncio.sleep(0.02)

    async def _ask_good(self, when: str) -> None:
        try:
            given = await self._runtime.infer("good", [_tensor(*map(float, range(ELEMENTS)))])
        except (WorkerError, RequestError) as error:
            self.wrong.append(f"the other model failed {when}: {error}")
            return
        if given.outputs[0].data != _tensor(*(2.0 * value for value in range(ELEMENTS))).data:
            self.wrong.append(f"the other model answered wrong {when}")

    def _surroundings(self) -> dict[str, Any]:
        """Return what a model must leave as it is."""
        gc.collect()
        files = sorted((str(path), path.lstat().st_mode, path.stat().st_mtime_ns) for path in self._outside.rglob("*"))
        contents = [hashlib.sha256(Path(name).read_bytes()).hexdigest() for name, *_ in files]
        blobs = sorted((path.name, path.stat().st_size) for path in self._folder.iterdir())
        return {
            "files outside": (files, contents),
            "blobs": blobs,
            "shared memory": sorted(path.name for path in Path("/dev/shm").glob("*")),
            "own descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "own name": Path("/proc/self/comm").read_text(),
        }

    def _compare(self, before: dict[str, Any], pid: int) -> None:
        after = self._surroundings()
        self.wrong += [f"{what} changed" for what in before if what != "shared memory" and before[what] != after[what]]
        if "hostile" in after["shared memory"]:
            self.wrong.append("shared memory was left behind")
        left = _of_session(pid) if pid else []
        if left:
            self.wrong.append(f"processes were left behind: {left}")
        grown = _resident_bytes()
        if grown > self._most_bytes:
            self.wrong.append(f"the supervisor takes {grown >> 20} MB")


def _of_session(session: int) -> list[int]:
    """Return the processes of a session: a worker is the first of its own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # ended while we looked
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _start(runtime: Runtime, name: str, folder: Path, blob: str) -> Any:
    spec = TensorSpec("x", DType.FP32, (1, ELEMENTS))
    library = Blob(blob, (folder / blob).stat().st_size)
    variant = Variant(
        "native-fp32", "native", "fp32", {"library": library}, Predicates("linux", os.uname().machine), 1 << 20
    )
    manifest = Manifest(
        format=1,
        model=name,
        version="1",
        release=1,
        target="host",
        signature=Signature((spec,), (dataclasses.replace(spec, name="y"),), (), None, "y"),
        variants=(variant,),
        golden=Golden(1, library, library, 0.0, 0.0, True),
        contract=Contract(),
        baseline=(),
        recipe=Recipe("simulated", "0" * 64, "c", "host", "0" * 64),
    )
    return await runtime.start(name, folder, variant, manifest)


def _tensor(*values: float) -> Tensor:
    full = [*values, *[0.0] * (ELEMENTS - len(values))]
    return Tensor("x", DType.FP32, (1, ELEMENTS), struct.pack(f"<{ELEMENTS}f", *full))


if __name__ == "__main__":
    sys.exit(main())
