"""An image as one file that every engine reads: `docker load`, `podman load`, `skopeo`. It is a Docker archive and an
OCI image layout in one, as newer engines write it themselves.

Sources: OCI Image Format Specification 1.1 (image-layout, config, manifest); Docker Image Specification 1.3 for health
checks and `manifest.json`. An image's id is the digest of its configuration, which names every layer by digest: the
same tree and words give the same id, on any machine and with any engine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """One layer: an uncompressed tar archive, and what made it, in words."""

    tar: bytes
    made_by: str

    @property
    def digest(self) -> str:
        """Its digest, as specifications write it."""
        return _digest(self.tar)


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """An image: platform (linux/arm64), name with tag, layers, how it is run, and when it counts as made."""

    platform: str
    tag: str
    layers: tuple[Layer, ...]
    run: Mapping[str, Any]
    created_s: int

    @property
    def config(self) -> bytes:
        """The configuration whose digest is the image's id."""
        system, _, rest = self.platform.partition("/")
        architecture, _, variant = rest.partition("/")
        when = datetime.fromtimestamp(self.created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        plain: dict[str, Any] = {
            "architecture": architecture,
            "os": system,
            "created": when,
            "config": dict(self.run),
            "rootfs": {"type": "layers", "diff_ids": [each.digest for each in self.layers]},
            "history": [{"created": when, "created_by": each.made_by} for each in self.layers],
        }
        if variant:
            plain["variant"] = variant
        return _json(plain)

    @property
    def id(self) -> str:
        """What engines call it: sha256:…"""
        return _digest(self.config)

    @property
    def size_bytes(self) -> int:
        """What its layers hold, unpacked."""
        return sum(len(each.tar) for each in self.layers)


def pack(images: Sequence[Image]) -> bytes:
    """Return some images as one archive."""
    blobs: dict[str, bytes] = {}
    index, table = [], []
    for image in images:
        config = image.config
        layers = [_blob(blobs, each.tar, _LAYER) for each in image.layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _blob(blobs, config, _CONFIG),
            "layers": layers,
        }
        system, architecture, *variant = image.platform.split("/")
        platform = {"os": system, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
        name = {"org.opencontainers.image.ref.name": image.tag}
        index.append({**_blob(blobs, _json(manifest), _MANIFEST), "platform": platform, "annotations": name})
        paths = [_path(each["digest"]) for each in layers]
        table.append({"Config": _path(image.id), "RepoTags": [image.tag], "Layers": paths})
    files = {_path(digest): content for digest, content in blobs.items()}
    files["index.json"] = _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": index})
    files["manifest.json"] = _json(table)
    files["oci-layout"] = _json({"imageLayoutVersion": "1.0.0"})
    return _tar(files, images[0].created_s if images else 0)


def _blob(blobs: dict[str, bytes], content: bytes, kind: str) -> dict[str, Any]:
    digest = _digest(content)
    blobs[digest] = content
    return {"mediaType": kind, "digest": digest, "size": len(content)}


def _tar(files: Mapping[str, bytes], time_s: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in ("blobs", "blobs/sha256"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, time_s
            archive.addfile(info)
        for path, content in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mode, info.mtime = len(content), 0o644, time_s
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _json(plain: Any) -> bytes:
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
