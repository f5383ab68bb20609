"""Images without an engine: trees, packages, wheels, archives."""

from __future__ import annotations

import doctest
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_simulators.debian import packages, tree, wheels
from skerry_simulators.debian.packages import Package
from skerry_simulators.debian.tree import Tree
from skerry_simulators.errors import SimulatorError
from skerry_simulators.images import archive, base, recipes
from skerry_simulators.images.archive import Image, Layer

names = st.text("abcxyz.-_é", min_size=1, max_size=6).filter(lambda text: text not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@pytest.mark.parametrize("module", [tree, packages, wheels, recipes])
def test_examples_in_docstrings(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


@given(st.dictionaries(paths, st.binary(max_size=40), max_size=8), st.randoms())
def test_a_tree_gives_the_same_archive_in_any_order_and_comes_back(files: dict[str, bytes], chance: object) -> None:
    files = {path: data for path, data in files.items() if not any(other.startswith(f"{path}/") for other in files)}
    one, two = Tree(), Tree()
    for path, data in files.items():
        one.file(path, data)
    for path, data in reversed(files.items()):
        two.file(path, data)
    assert one.tar(7) == two.tar(7)
    back = Tree()
    back.unpack(one.tar(7))
    assert {path: node.data for path, node in back if node.kind == "file"} == files
    with tarfile.open(fileobj=io.BytesIO(one.tar(7))) as opened:
        assert all((each.uid, each.gid, each.mtime, each.uname) == (0, 0, 7, "") for each in opened)


def _tar(*members: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as opened:
        for each in members:
            opened.addfile(each, io.BytesIO(b"x" * each.size))
    return stream.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode, made.uid = kind, target, mode, 1234
    made.size = 1 if kind == tarfile.REGTYPE else 0
    return made


@pytest.mark.parametrize(
    "members",
    [
        [_member("../etc/passwd")],
        [_member("usr/../../x")],
        [_member("a", tarfile.LNKTYPE, "../../etc/shadow")],
        [_member("a", tarfile.LNKTYPE, "nothing")],
    ],
)
def test_an_archive_that_leads_outside_is_refused(members: list[tarfile.TarInfo]) -> None:
    with pytest.raises(SimulatorError) as refused:
        Tree().unpack(_tar(*members))
    assert refused.value.hint


def test_owners_privileges_and_devices_of_an_archive_are_not_taken_over() -> None:
    found = Tree()
    found.unpack(
        _tar(
            _member("./lib/x.so"),
            _member("lib", tarfile.SYMTYPE, "usr/lib"),
            _member("./usr/bin/su", mode=0o4755),
            _member("dev/sda", tarfile.BLKTYPE),
            _member("usr/bin/same", tarfile.LNKTYPE, "usr/bin/su"),
        )
    )
    assert [path for path, _ in found] == ["usr", "usr/bin", "usr/bin/same", "usr/bin/su", "usr/lib", "usr/lib/x.so"]
    assert {node.owner for _, node in found} == {0}
    assert found["usr/bin/su"].mode == 0o755 and found["usr/bin/same"].data == b"x"


def package(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """Make a Debian package as dpkg does."""
    root = folder / name
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN").chmod(0o755)  # dpkg demands it, whatever the umask of the tests is by now
    lines = f"Package: {name}\nVersion: {version}\nArchitecture: arm64\nMaintainer: a <a@b>\nDescription: d\n"
    (root / "DEBIAN" / "control").write_text(lines)
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    made = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(made)], check=True, capture_output=True)
    return made


needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb: run it on Debian")


@needs_dpkg
def test_a_package_is_read_as_dpkg_made_it_and_not_where_it_is_damaged(tmp_path: Path) -> None:
    content = {"usr/share/a": b"one", "lib/b.so": b"two" * 999}
    path = package(tmp_path, "thing", "1:2.3-4", content)
    found = packages.read(path)
    assert (found.name, found.version, found.architecture) == ("thing", "1:2.3-4", "arm64")
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    files = {name: node.data for name, node in found.unpack() if node.kind == "file"}
    assert files == {"usr/share/a": b"one", "usr/lib/b.so": b"two" * 999}
    whole = path.read_bytes()
    for length in [0, 4, 8, 30, 67, 72, 90, 200, len(whole) // 2, len(whole) - 40]:
        path.write_bytes(whole[:length])
        with pytest.raises(SimulatorError) as refused:
            packages.read(path).unpack()
        assert refused.value.hint


@needs_dpkg
def test_the_ground_has_a_user_licences_and_no_tools(tmp_path: Path) -> None:
    def made(name: str, version: str, files: dict[str, bytes]) -> Package:
        return packages.read(package(tmp_path, name, version, files))

    unwanted = {"usr/share/man/man1/x.gz": b"", "usr/bin/openssl": b"", "usr/lib/python3.13/test/t.py": b""}
    doc = {"usr/share/doc/libc6/copyright": b"GPL", "usr/share/doc/libc6/changelog.gz": b""}
    authorities = {f"usr/share/ca-certificates/mozilla/{each}.crt": each.encode() for each in "ba"}
    ground = base.assemble(
        [
            made("libc6", "2.41-12", {"lib/ld-linux.so.3": b"", **doc, **unwanted}),
            made("libpython3.13-stdlib", "3.13.5-2", {"usr/lib/python3.13/os.py": b"", "usr/bin/python3.13": b""}),
            made("ca-certificates", "1", authorities),
        ]
    )
    assert (ground.python, ground.glibc) == ((3, 13), (2, 41))
    assert not [path for path in (*unwanted, "usr/share/doc/libc6/changelog.gz") if path in ground.tree]
    assert ground.tree["usr/share/doc/libc6/copyright"].data == b"GPL"
    assert ground.tree["etc/ssl/certs/ca-certificates.crt"].data == b"a\nb\n"
    assert ground.tree["lib"].target == "usr/lib" and ground.tree["tmp"].mode == 0o1777
    assert b"skerry:x:10001" in ground.tree["etc/passwd"].data
    assert b"Version: 2.41-12" in ground.tree["var/lib/dpkg/status.d/libc6"].data
    with pytest.raises(SimulatorError, match="no Python"):
        base.assemble([made("other", "1", {})])


def test_a_wheel_is_unpacked_without_its_commands(tmp_path: Path) -> None:
    wheel = tmp_path / "Some_Thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("some/__init__.py", "a = 1\n")
        made.writestr("some-1.0.data/purelib/more.py", "")
        made.writestr("some-1.0.data/scripts/run", "")
    files = [path for path, node in wheels.unpack(wheel, "site") if node.kind == "file"]
    assert files == ["site/more.py", "site/some/__init__.py"]
    older = tmp_path / "some_thing-0.9-py3-none-any.whl"
    assert wheels.chosen(["some-thing==1.0 --hash=sha256:00"], [older, wheel]) == [wheel]
    older.write_bytes(wheel.read_bytes()[:50])
    with pytest.raises(SimulatorError, match="no wheel"):
        wheels.unpack(older, "site")
    with zipfile.ZipFile(older, "w") as made:
        made.writestr("../../outside", "")
    with pytest.raises(SimulatorError, match="outside"):
        wheels.unpack(older, "site")


def image(platform: str, tag: str) -> Image:
    layers = (Layer(b"one", "a"), Layer(b"two", "b"))
    return Image(platform, tag, layers, {"User": "10001"}, 1_700_000_000)


def test_an_archive_is_whole_for_docker_and_as_an_oci_layout() -> None:
    images = [image("linux/amd64", "x:1"), image("linux/arm/v7", "x:2")]
    packed = archive.pack(images)
    assert packed == archive.pack(images) and images[0].id != images[1].id
    with tarfile.open(fileobj=io.BytesIO(packed)) as opened:
        files = {each.name: opened.extractfile(each) for each in opened if each.isfile()}
        content = {path: file.read() for path, file in files.items() if file is not None}
    for path, data in content.items():
        if path.startswith("blobs/"):
            assert path == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"

    def blob(record: dict[str, object]) -> bytes:
        data = content["blobs/" + str(record["digest"]).replace(":", "/")]
        assert record["size"] == len(data)
        return data

    manifests = json.loads(content["index.json"])["manifests"]
    assert [each["platform"].get("variant") for each in manifests] == [None, "v7"]
    for each, table, made in zip(manifests, json.loads(content["manifest.json"]), images, strict=True):
        manifest = json.loads(blob(each))
        config = json.loads(blob(manifest["config"]))
        assert manifest["config"]["digest"] == made.id and table["Config"].endswith(made.id[7:])
        assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
        assert [blob(layer) for layer in manifest["layers"]] == [b"one", b"two"]
        assert table["RepoTags"] == [made.tag] and config["created"] == "2023-11-14T22:13:20Z"
