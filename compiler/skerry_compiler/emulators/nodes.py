"""WebAssembly modules in Node.js, whose engine is Chrome's: rows in, answers out."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from skerry_compiler.emulators.modules import FAULTS
from skerry_compiler.emulators.running import run
from skerry_contracts.bundle import Signature
from skerry_targets.profile import Profile

COMMAND = "node"
# V8 offers no SIMD on a processor without SSE4.1; on others than x86 it cannot be told so.
NO_SIMD = "--no-enable-sse4-1"
# Arguments: the module, the bytes of each input and output, how many are inputs.
_HOST = """
const fs = require("fs"), [path, list, count] = process.argv.slice(1), sizes = list.split(",").map(Number);
let exports;
try {
  exports = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync(path)), {}).exports;
} catch (error) {
  console.error(String(error));
  process.exit(101);
}
const {memory, skerry_run: run} = exports, sources = Number(count), places = [], answers = [];
if (!memory || !run) process.exit(103);
let end = memory.buffer.byteLength;
for (const size of sizes) { places.push(end); end += Math.ceil(size / 64) * 64; }
const tables = end, row = sizes.slice(0, sources).reduce((one, two) => one + two, 0), rows = fs.readFileSync(0);
end += 4 * sizes.length;
memory.grow(Math.ceil((end - memory.buffer.byteLength) / 65536));
new Uint32Array(memory.buffer, tables, sizes.length).set(places);
for (let at = 0; row && at + row <= rows.length;) {
  for (let i = 0; i < sources; at += sizes[i++])
    new Uint8Array(memory.buffer, places[i], sizes[i]).set(rows.subarray(at, at + sizes[i]));
  const status = run(tables, tables + 4 * sources);
  if (status) process.exit(status & 255 || 1);
  for (let i = sources; i < sizes.length; i++)
    answers.push(Buffer.from(memory.buffer.slice(places[i], places[i] + sizes[i])));
}
fs.writeSync(1, Buffer.concat(answers));
"""


def available(profile: Profile) -> bool:
    """Return whether Node.js is here, and the profile asks for it."""
    return profile.emulator.kind == COMMAND and shutil.which(profile.emulator.command) is not None


def outputs(module: bytes, profile: Profile, signature: Signature, rows: bytes) -> bytes:
    """Return the outputs of rows; none for no rows: then the module is only loaded. A profile without SIMD gets none.

    Raises:
        CompileError: the module does not load, traps, or takes too long.
    """
    sizes = [spec.size_bytes for spec in (*signature.inputs, *signature.outputs)]
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        path = Path(name) / "model.wasm"
        path.write_bytes(module)
        words = [str(path), ",".join(map(str, sizes)), str(len(signature.inputs))]
        flags = [] if "simd128" in profile.cpu.features else [NO_SIMD]
        command = [profile.emulator.command, *flags, "-e", _HOST, *words]
        return run(command, rows, Path(name), {"PATH": os.environ.get("PATH", os.defpath), "HOME": name}, FAULTS)
