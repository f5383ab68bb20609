"""The house itself: sizes, the map, the docs, what starts fast, and what may stand where."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.__main__ import COMMANDS
from skerry_contracts.topics import CHANNELS

HOUSE = Path(__file__).parents[1]
# In the order in which data visits them.
ROOMS = ("contracts", "targets", "compiler", "agent", "fleet", "cloud", "simulators")
PACKAGES = [*(HOUSE / room / f"skerry_{room}" for room in ROOMS), HOUSE / "agent" / "skerry_firmware"]

FILE_LINES = 300
FUNCTION_LINES = 60
# path: why it may be longer
LONGER_FILES: dict[str, str] = {}
LONGER_FUNCTIONS: dict[str, str] = {}

# library: the only places that may import it (one door a technology)
DOORS: dict[str, tuple[str, ...]] = {
    "paho": ("agent/skerry_agent/link.py",),
    "tuf": ("agent/skerry_agent/trust", "fleet/skerry_fleet/trust"),
    # The fleet's server is uvicorn, whose connections speak through h11: one class gives them a clock.
    "h11": ("agent/skerry_agent/http_connection.py", "fleet/skerry_fleet/wire.py"),
    "grpc": ("agent/skerry_agent/grpc_front",),
    # The simulator looks into the real fleet's tables to check its invariants.
    "sqlmodel": ("fleet/skerry_fleet", "simulators/skerry_simulators/fleet.py"),
    "sqlalchemy": ("fleet/skerry_fleet", "simulators/skerry_simulators/fleet.py"),
    "pyarrow": ("cloud/skerry_cloud/lake",),
    "httpx": ("fleet/skerry_fleet", "cloud/skerry_cloud/fleet_client.py", "simulators/skerry_simulators"),
    "ziglang": ("compiler/skerry_compiler",),
    "elftools": ("compiler/skerry_compiler/firmware",),
    "skl2onnx": ("compiler/skerry_compiler/frontends", "cloud/skerry_cloud"),
    "ai_edge_litert": ("compiler/skerry_compiler/baseline_tflite.py",),
    "torch": ("compiler/skerry_compiler/frontends",),
    "tvm": ("compiler/skerry_compiler/engines/tvm_child.py", "compiler/skerry_compiler/proof/cuda/tvm_child.py"),
    "tvm_ffi": ("compiler/skerry_compiler/proof/cuda/tvm_child.py",),
    "openvino": (),
    "docker": ("simulators/skerry_simulators/images/engine.py",),
    "obstore": ("fleet/skerry_fleet/objects.py",),
    "zstandard": ("fleet/skerry_fleet/zstd.py",),
}
# extra: why it is not locked, and so in no test environment
UNLOCKED = {
    "openvino": "185 MB, opt-in",
    "torch": "half a gigabyte, for one front end",
    "tvm": "311 MB, opt-in",
    "cuda": "half a gigabyte, to prove graphics processors with",
}

HEAVY = {
    "numpy",
    "onnx",
    "onnxruntime",
    "sklearn",
    "scipy",
    "pyarrow",
    "skl2onnx",
    "skops",
    "fastapi",
    "sqlmodel",
    "tuf",
}


def sources(*roots: Path) -> Iterator[Path]:
    for root in roots or (*PACKAGES, HOUSE / "contracts" / "skerry"):
        yield from sorted(root.rglob("*.py"))


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=HOUSE, capture_output=True, check=True).stdout
    return [HOUSE / name for name in listed.decode().split("\0") if name]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {each.name.split(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def name(path: Path) -> str:
    return path.relative_to(HOUSE).as_posix()


def test_files_are_short() -> None:
    roots = (*PACKAGES, HOUSE / "tests", HOUSE / "benchmarks")
    long = {name(path): len(path.read_text().splitlines()) for path in sources(*roots)}
    assert {path: lines for path, lines in long.items() if lines > FILE_LINES and path not in LONGER_FILES} == {}


def test_functions_are_short() -> None:
    long = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES and f"{name(path)}:{node.name}" not in LONGER_FUNCTIONS:
                    long[f"{name(path)}:{node.name}"] = lines
    assert long == {}


def test_the_face_of_a_package_is_its_docstring() -> None:
    for path in sources():
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert len(body) == 1 and isinstance(body[0], ast.Expr), f"{name(path)} holds more than a docstring"


def test_the_readme_maps_the_folders_in_the_order_data_visits_them() -> None:
    readme = (HOUSE / "README.md").read_text()
    mapped = re.findall(r"^\| `([a-z.]+)/` \|", readme, re.MULTILINE)
    folders = {path.name for path in HOUSE.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    assert set(mapped) == folders & {name(path).split("/")[0] for path in tracked()}
    assert [room for room in mapped if room in ROOMS] == list(ROOMS)


def test_every_channel_command_and_target_is_documented() -> None:
    docs = "\n".join(path.read_text() for path in (HOUSE / "docs").rglob("*.md")) + (HOUSE / "README.md").read_text()
    missing = [f"channel {word}" for word in CHANNELS if f"`{word}`" not in docs]
    missing += [f"command {word}" for word in COMMANDS if f"skerry {word}" not in docs]
    profiles = (HOUSE / "targets" / "skerry_targets" / "profiles").rglob("*.toml")
    missing += [f"target {path.stem}" for path in profiles if f"`{path.stem}`" not in docs]
    assert missing == []


@pytest.mark.parametrize("package", ["agent", "fleet", "cloud", "compiler", "simulators"])
def test_every_setting_is_documented(package: str) -> None:
    config = HOUSE / package / f"skerry_{package}" / "config.py"
    if not config.exists():
        return
    docs = "\n".join(path.read_text() for path in (HOUSE / "docs").rglob("*.md"))
    for node in ast.walk(ast.parse(config.read_text())):
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
            for each in node.body:
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                    assert f"`{each.target.id}`" in docs, f"{package}: setting {each.target.id} is documented nowhere"


@pytest.mark.parametrize("word", [*COMMANDS, ""])
def test_help_loads_no_heavy_library(word: str) -> None:
    script = f"""
import sys
from skerry.__main__ import main
try:
    code = main({[word, "--help"] if word else ["--help"]!r})
except SystemExit as end:
    code = end.code
heavy = sorted({HEAVY!r} & set(sys.modules))
assert not heavy, heavy
assert code in (0, None), code
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)


@pytest.mark.parametrize("library", sorted(DOORS))
def test_one_door_a_technology(library: str) -> None:
    elsewhere = [
        name(path) for path in sources() if library in imports(path) and not name(path).startswith(DOORS[library])
    ]
    assert elsewhere == []


def test_nothing_dangerous_is_called() -> None:
    pattern = re.compile(r"pickle\.loads?\(|allow_pickle=True|yaml\.load\(|shell=True|verify=False|joblib\.load\(")
    # The scikit-learn front end may open a pickle, and only when the user says that it is trusted.
    allowed = {"compiler/skerry_compiler/frontends/sklearn.py"}
    found = [name(path) for path in sources() if pattern.search(path.read_text()) and name(path) not in allowed]
    assert found == []


def test_no_machine_path_and_no_registry_address() -> None:
    path_or_host = re.compile(
        re.escape(f"{HOUSE}/") + r"|pypi\.org|pythonhosted|registry\.npmjs|deb\.debian\.org|://[\w.-]+/debian"
    )
    texts = (path for path in tracked() if path.suffix not in (".png", ".skerry", ".onnx") and path.is_file())
    assert [
        name(path)
        for path in texts
        if path != Path(__file__) and path_or_host.search(path.read_text("utf-8", "replace"))
    ] == []


def test_every_dependency_has_a_lower_bound_and_a_lock() -> None:
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"]]
    extras = project["project"]["optional-dependencies"]
    assert all(">=" in each for name in UNLOCKED for each in extras[name])
    wanted += [each for name, extra in extras.items() if name not in UNLOCKED for each in extra]
    wanted = [each for each in wanted if not each.startswith("skerry[")]
    assert [each for each in wanted if ">=" not in each] == []
    lock = (HOUSE / "requirements" / "dev.txt").read_text()
    locked = {each.split("==")[0].lower() for each in re.findall(r"^[A-Za-z0-9_.-]+==", lock, re.MULTILINE)}
    assert {re.split(r"[<>=\[ ]", each)[0].lower() for each in wanted} <= locked
    assert "--index-url" not in lock and lock.count("--hash=sha256:") > len(locked)


def test_the_fleets_image_has_all_that_its_extras_need() -> None:
    extras = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {
        re.split(r"[<>=\[ ]", each)[0].lower() for name in ("fleet", "postgres", "objects") for each in extras[name]
    }
    lock = (HOUSE / "requirements" / "fleet.txt").read_text()
    assert wanted <= {each.lower() for each in re.findall(r"^([A-Za-z0-9_.-]+)==", lock, re.MULTILINE)}
