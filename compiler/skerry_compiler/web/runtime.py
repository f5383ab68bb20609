"""Where onnxruntime-web lies on this machine, if it does: installed by npm, and of the version that packages name."""

from __future__ import annotations

import json
import os
from pathlib import Path

from skerry_compiler.errors import ToolError
from skerry_compiler.web.package import ENTRY, PACKAGE, runtime_version

VARIABLE = "SKERRY_ONNXRUNTIME_WEB"
GLOBAL = (Path("/usr/local/lib/node_modules"), Path("/usr/lib/node_modules"))
FILES = (Path(ENTRY).name, "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def wanted() -> str:
    """Return what npm is to install."""
    return f"{PACKAGE}@{runtime_version()}"


def find(near: Path | None = None) -> Path | None:
    """Return the folder of onnxruntime-web: the one that the environment names, in node_modules of the package `near`,
    of this folder or those above, or npm's for all; None where there is none.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    here = Path.cwd()
    places = [each / "node_modules" for each in (*([near] if near else []), here, *here.parents)]
    return next((each / PACKAGE for each in (*places, *GLOBAL) if (each / PACKAGE / "package.json").is_file()), None)


def served(near: Path | None = None) -> dict[str, bytes]:
    """Return what a page loads of it, by the path that pages expect.

    Raises:
        ToolError: it is not here, of another version, or not whole.
    """
    folder = find(near)
    hint = f"npm install {wanted()}, here or with {VARIABLE} naming its folder"
    if folder is None:
        raise ToolError(f"{PACKAGE} is not installed here", hint=hint)
    try:
        version = json.loads((folder / "package.json").read_bytes())["version"]
        if version != runtime_version():
            raise ToolError(f"{PACKAGE} {version} is installed, the package names {runtime_version()}", hint=hint)
        return {f"{Path(ENTRY).parent.as_posix()}/{name}": (folder / "dist" / name).read_bytes() for name in FILES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ToolError(f"{folder} is no whole {PACKAGE}: {error}", hint=hint) from error
