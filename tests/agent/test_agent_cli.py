"""The command line: exit codes, one line an error, and the factory model."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from tests.agent.serving_parts import bundle, compiled

from skerry_agent import cli
from skerry_agent.disk import RealDisk
from skerry_agent.store import Store
from skerry_agent.this_device import this_hardware
from skerry_contracts import codec, container


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skerry", "agent", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "COMMAND"),
        (("nonsense",), 2, "nonsense"),
        (("enroll",), 2, "--fleet"),
        (("run",), 1, "not enrolled"),
        (("status",), 1, "no agent answers"),
        (("import", "missing.skerry"), 1, "missing.skerry"),
        (("enroll", "--fleet", "http://127.0.0.1:9", "--claim", "x"), 1, "claim"),
        (("enroll", "--fleet", "nowhere", "--claim", "x"), 1, "nowhere"),
        (("run", "--api-port", "99999"), 1, "99999"),
    ],
)
def test_errors_are_one_line_and_say_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    more = ("--root", str(tmp_path)) if words and words[0] != "nonsense" else ()
    try:
        found = cli.main([*words, *more])
    except SystemExit as error:
        found = int(str(error.code))
    errors = capsys.readouterr().err
    assert found == code and said in errors
    if code == 1:
        assert errors.startswith("skerry: error: ") and errors.count("\n") == 1 and errors.rstrip().endswith(")")


def test_the_command_starts_without_heavy_libraries() -> None:
    code = (
        "import sys; from skerry_agent import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'asyncio', 'paho', 'cryptography', 'tuf', 'ssl', 'sqlite3'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_daemon_imports_no_signature_library() -> None:
    code = (
        "import sys, skerry_agent.daemon\n"
        "heavy = {'cryptography', 'tuf', 'securesystemslib', 'numpy', 'urllib3'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def packed(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    parts = bundle(folder, compiled(folder))
    file = io.BytesIO()
    blobs = [(digest, (folder / digest).read_bytes()) for digest in parts.manifest.blobs()]
    container.write_container(file, codec.encode(parts.manifest), blobs, None)
    path = tmp_path / "toy.skerry"
    path.write_bytes(file.getvalue())
    return path


def test_a_factory_model_is_installed_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "device"
    assert cli.main(["import", str(packed(tmp_path)), "--root", str(root)]) == 0
    store = Store(RealDisk(root))
    ((model, identity),) = store.factory().items()
    manifest = store.manifest(identity)
    assert model == "toy" and manifest is not None
    store.check(manifest, manifest.variants[0])
    assert identity in capsys.readouterr().out


def test_a_flipped_byte_is_refused_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, root = packed(tmp_path), tmp_path / "device"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert cli.main(["import", str(path), "--root", str(root)]) == 1
    assert capsys.readouterr().err.startswith("skerry: error: ")
    assert Store(RealDisk(root)).factory() == {}


def test_this_machine_can_say_what_it_is() -> None:
    found = this_hardware()
    assert found.os == "linux" and found.cores >= 1 and found.memory_bytes > 0
