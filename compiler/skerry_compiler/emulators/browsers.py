"""WebAssembly modules in a headless browser: a page that holds module and rows, and shows its answers."""

from __future__ import annotations

import base64
import json
import re
import shutil
import tempfile
from pathlib import Path

from skerry_compiler.emulators.nodes import NO_SIMD
from skerry_compiler.emulators.running import run
from skerry_compiler.errors import CompileError
from skerry_contracts.bundle import Signature
from skerry_targets.profile import Profile

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--no-first-run", "--dump-dom")
PAGE = """<!doctype html><meta charset="utf-8"><title>rows</title><body><script>
const from = text => Uint8Array.from(atob(text), each => each.charCodeAt(0));
const sizes = SIZES, sources = SOURCES, rows = from("ROWS");
let said;
try {
  const {memory, skerry_run: run} = new WebAssembly.Instance(new WebAssembly.Module(from("MODULE")), {}).exports;
  const round = size => Math.ceil(size / 64) * 64;
  let end = memory.buffer.byteLength;
  const places = sizes.map(size => { const at = end; end += round(size); return at; });
  const tables = end;
  end += 4 * sizes.length;
  memory.grow(Math.ceil((end - memory.buffer.byteLength) / 65536));
  new Uint32Array(memory.buffer, tables, sizes.length).set(places);
  const sum = list => list.reduce((one, two) => one + two, 0), row = sum(sizes.slice(0, sources)), answers = [];
  for (let at = 0; row && at + row <= rows.length;) {
    for (let i = 0; i < sources; at += sizes[i++])
      new Uint8Array(memory.buffer, places[i], sizes[i]).set(rows.subarray(at, at + sizes[i]));
    const status = run(tables, tables + 4 * sources);
    if (status) throw new Error(`the model says ${status}`);
    for (let i = sources; i < sizes.length; i++) answers.push(...new Uint8Array(memory.buffer, places[i], sizes[i]));
  }
  said = "answers:" + btoa(answers.map(each => String.fromCharCode(each)).join(""));
} catch (error) {
  said = "error:" + btoa(String(error).replace(/[^ -~]/g, "?"));
}
document.body.textContent = said;
</script>"""


def available(profile: Profile) -> bool:
    """Return whether the profile's browser is here."""
    return profile.emulator.kind == "chromium" and shutil.which(profile.emulator.command) is not None


def outputs(module: bytes, profile: Profile, signature: Signature, rows: bytes) -> bytes:
    """Return the outputs of rows; none for no rows: then the module is only loaded. A profile without SIMD gets none.

    Raises:
        CompileError: the browser does not start, or the module does not load or run in it.
    """
    sizes = [spec.size_bytes for spec in (*signature.inputs, *signature.outputs)]
    words = {"SIZES": json.dumps(sizes), "SOURCES": str(len(signature.inputs))}
    words |= {"ROWS": base64.b64encode(rows).decode(), "MODULE": base64.b64encode(module).decode()}
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        page = re.sub("|".join(words), lambda found: words[found[0]], PAGE)
        (folder / "page.html").write_text(page)
        simd = [] if "simd128" in profile.cpu.features else [f"--js-flags={NO_SIMD}"]
        command = [
            profile.emulator.command,
            *FLAGS,
            *simd,
            f"--user-data-dir={name}/browser",
            f"file://{name}/page.html",
        ]
        shown = run(command, b"", folder, {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": name}, {}).decode(
            "utf-8", "replace"
        )
    found = re.search(r"<body>(answers|error):([A-Za-z0-9+/=]*)", shown)
    if found is None:
        raise CompileError("the browser showed nothing")
    content = base64.b64decode(found[2])
    if found[1] == "error":
        raise CompileError(f"in the browser: {content.decode('ascii', 'replace')[:200]}")
    return content
