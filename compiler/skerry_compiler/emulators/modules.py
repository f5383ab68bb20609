"""WebAssembly modules in Wasmtime, a process of its own: rows in, answers out.

The module brings its memory; what it is fed lies in pages behind its own.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from skerry_compiler.emulators.running import run
from skerry_contracts.bundle import Signature
from skerry_targets.profile import Profile

FAULTS = {101: "it is no module, or asks for what a model must not have", 103: "it has no skerry_run"}
# Arguments: the module, the bytes of each input and output, how many are inputs.
_HOST = """
import struct, sys
import wasmtime
sizes, sources = [int(each) for each in sys.argv[2].split(",")], int(sys.argv[3])
store = wasmtime.Store()
try:
    exports = wasmtime.Instance(store, wasmtime.Module.from_file(store.engine, sys.argv[1]), []).exports(store)
except wasmtime.WasmtimeError as error:
    print(error, file=sys.stderr)
    sys.exit(101)
memory, call = exports.get("memory"), exports.get("skerry_run")
if memory is None or call is None:
    sys.exit(103)
end, places = memory.data_len(store), []
for size in sizes:
    places.append(end)
    end += -(-size // 64) * 64
tables, end = end, end + 4 * len(sizes)
memory.grow(store, -(-(end - memory.data_len(store)) // 65536))
memory.write(store, struct.pack(f"<{len(places)}I", *places), tables)
row = sum(sizes[:sources])
while True:
    given = sys.stdin.buffer.read(row)
    if len(given) < row or not row:
        break
    at = 0
    for place, size in zip(places[:sources], sizes):
        memory.write(store, given[at : at + size], place)
        at += size
    status = call(store, tables, tables + 4 * sources)
    if status:
        sys.exit(status)
    for place, size in zip(places[sources:], sizes[sources:]):
        sys.stdout.buffer.write(memory.read(store, place, place + size))
"""


def available(profile: Profile) -> bool:
    """Return whether Wasmtime is here, and the profile asks for it."""
    return profile.emulator.kind == "wasmtime" and importlib.util.find_spec("wasmtime") is not None


def outputs(module: bytes, signature: Signature, rows: bytes) -> bytes:
    """Return the outputs of rows; none for no rows: then the module is only loaded.

    Raises:
        CompileError: the module does not load, traps, or takes too long.
    """
    sizes = [spec.size_bytes for spec in (*signature.inputs, *signature.outputs)]
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        path = Path(name) / "model.wasm"
        path.write_bytes(module)
        command = [sys.executable, "-c", _HOST, str(path), ",".join(map(str, sizes)), str(len(signature.inputs))]
        return run(command, rows, Path(name), {"PATH": os.environ.get("PATH", "")}, FAULTS)
