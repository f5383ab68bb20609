"""Entries in our own layout, byte for byte, that a bundle must not have: each is refused without being unpacked."""

from __future__ import annotations

import io
import zlib

import pytest
from tests.contracts.test_container import SAMPLE, a_manifest

from skerry_contracts import codec, container
from skerry_contracts.errors import ContractError

Entry = tuple[str, bytes]


def laid_out(entries: list[Entry], *, sizes: dict[str, int] | None = None, shared: bool = False) -> bytes:
    """Return a container of any entries. `sizes`: what headers say instead; `shared`: all point at the first."""
    file, directory, offset = b"", b"", 0
    for name, content in entries:
        size = (sizes or {}).get(name, len(content))
        entry = container._Entry(name, zlib.crc32(content), size, 0 if shared else offset)
        directory += entry.central()
        if not shared or not file:
            file += entry.local() + content
            offset = len(file)
    end = container._END.pack(b"PK\5\6", 0, 0, len(entries), len(entries), len(directory), len(file), 0)
    return file + directory + end


def sound() -> list[Entry]:
    named = [(codec.digest(each), each) for each in SAMPLE]
    return sorted([("manifest.json", a_manifest(SAMPLE)), ("evidence.json", b"{}"), *named])


def refused(data: bytes) -> str:
    with pytest.raises(ContractError) as caught:
        container.open_container(io.BytesIO(data)).verify()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value)


def test_the_layout_is_that_of_the_writer() -> None:
    """And so what is refused below is refused for its entries."""
    container.open_container(io.BytesIO(laid_out(sound()))).verify()


def test_an_entry_that_stands_twice_is_refused() -> None:
    for name, content in sound():
        assert "stands twice" in refused(laid_out(sorted([*sound(), (name, content)])))
        assert "stands twice" in refused(laid_out(sorted([*sound(), (name, b"other")])))


def test_entries_that_the_manifest_does_not_name_are_refused() -> None:
    unknown = (codec.digest(b"more"), b"more")
    assert "does not name" in refused(laid_out(sorted([*sound(), unknown])))
    assert "not in the file" in refused(laid_out([each for each in sound() if each[1] != SAMPLE[0]]))
    for name in ("MANIFEST.JSON", "manifest.json\x00", "../manifest.json", "a" * 63, "A" * 64, "/etc/passwd", "~"):
        assert "does not belong" in refused(laid_out([*sound(), (name, b"x")]))


def test_a_bomb_is_not_unpacked() -> None:
    """Sizes that the file does not hold, and one content that many entries point at."""
    for name, _ in sound():
        for size in (1 << 31, 0xFFFF_FFFF, 0):
            refused(laid_out(sound(), sizes={name: size}))
    names = [f"{number:064x}" for number in range(4000)]
    refused(laid_out([(name, b"x" * 1000) for name in names], shared=True))
    refused(laid_out([(f"{number:064x}", b"") for number in range(container.MAX_ENTRIES + 1)]))


def test_a_link_is_refused_in_whatever_way_it_is_marked() -> None:
    data = laid_out(sound())
    at = data.index(b"PK\1\2")
    for mode in (0o120777, 0o040755, 0o104755, 0o020666, 0):
        changed = bytearray(data)
        changed[at + 38 : at + 42] = (mode << 16).to_bytes(4, "little")
        assert "link" in refused(bytes(changed))
