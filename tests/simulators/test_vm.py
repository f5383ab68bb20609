"""Virtual machines that are killed: what goes in, what comes out, and (where there is a kernel) a real one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from skerry_simulators import blocklog, vm, vm_guest
from skerry_simulators.cli import main
from skerry_simulators.errors import SimulatorError
from skerry_simulators.vm_pack import Archive
from skerry_simulators.vmcut import cut_machines


def unpacked(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Read a cpio archive (newc) as the kernel does: path to mode and content."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        name = archive[at + 110 : at + 109 + fields[11]].decode()
        data = at + 110 + fields[11]
        data += -data % 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], archive[data : data + fields[6]])
        at = data + fields[6]
        at += -at % 4


def test_an_archive_holds_files_below_their_folders() -> None:
    archive = Archive()
    archive.add("a/b/c.txt", b"hello", 0o600)
    archive.add("d", b"", 0o755)
    archive.add("d", b"a second one of the same path")
    data = archive.close()
    found = unpacked(data)
    assert list(found) == ["a", "a/b", "a/b/c.txt", "d"]
    assert found["a/b"] == (0o040755, b"") and found["a/b/c.txt"] == (0o100600, b"hello") and found["d"][1] == b""
    if shutil.which("cpio"):
        listed = subprocess.run(["cpio", "-it", "--quiet"], input=data, capture_output=True, check=True).stdout
        assert listed.decode().split() == list(found)


def test_facts_come_out_as_far_as_they_were_told(tmp_path: Path) -> None:
    disk = tmp_path / "facts"
    disk.write_bytes(bytes(64 << 10))
    tell = vm_guest.Teller(str(disk))
    facts: list[blocklog.Fact] = [
        {"at": 1.0, "chapter": "delta"},
        {"added": [["boot", number] for number in range(200)]},
    ]
    for each in facts:
        tell(each)
    assert vm_guest.told(disk.read_bytes()) == facts
    data = disk.read_bytes()
    assert vm_guest.told(data[: 3 * blocklog.SECTOR]) == facts[:1], "a fact that is not whole is none"
    assert vm_guest.told(bytes(4096)) == [] and vm_guest.told(b"") == []


def test_the_newest_kernel_with_modules_is_found(tmp_path: Path) -> None:
    assert vm.find_kernel(tmp_path) is None
    (tmp_path / "boot").mkdir()
    for version in ("6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "6.12.1-none"):
        (tmp_path / "boot" / f"vmlinuz-{version}").touch()
        if "none" not in version:
            (tmp_path / "lib/modules" / version / "kernel").mkdir(parents=True)
    found = vm.find_kernel(tmp_path)
    assert found is not None and found.version == "6.1.0-56-cloud-amd64"


def test_a_machine_without_qemu_or_kernel_is_told_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert main(["vm", "--cuts", "1", "--kernel", str(tmp_path)]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("skerry: error: virtual machines need qemu-system-x86_64 (") and shown.count("\n") == 1
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/bin/true")
    with pytest.raises(SimulatorError, match="need a kernel with its modules"):
        cut_machines(1, kernel=tmp_path)


@pytest.mark.slow
@pytest.mark.machines
def test_a_machine_that_is_killed_keeps_every_promise() -> None:
    found = cut_machines(1, seed=5, kernel=Path(os.environ.get(vm.KERNEL, "/")))
    assert found.images == 1 and found.violations == () and sum(found.phases.values()) == 1
