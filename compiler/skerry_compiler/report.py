"""What a compile and a bench found, for people and as plain data."""

from __future__ import annotations

from typing import Any

from skerry_contracts import codec
from skerry_contracts.bundle import Manifest, Signature
from skerry_contracts.evidence import Evidence
from skerry_contracts.tensor import TensorSpec


def summary(manifest: Manifest, bundle_id: str, evidence: Evidence | None) -> dict[str, Any]:
    """Return the essentials of a bundle as plain data."""
    return {
        "bundle": bundle_id,
        "model": manifest.model,
        "version": manifest.version,
        "release": manifest.release,
        "target": manifest.target,
        "size_bytes": sum(blob.size_bytes for blob in manifest.blobs().values()),
        "variants": [each.id for each in manifest.variants],
        "signature": _signature(manifest.signature),
        "executed_on": None if evidence is None else evidence.executed_on,
        "original": None if evidence is None or evidence.original is None else codec.to_plain(evidence.original),
        "original_accuracy": None if evidence is None else evidence.original_accuracy,
        "candidates": [] if evidence is None else [codec.to_plain(each) for each in evidence.candidates],
        "notes": [] if evidence is None else list(evidence.notes),
    }


def _signature(signature: Signature) -> dict[str, Any]:
    def said(spec: TensorSpec) -> str:
        return f"{spec.name} {spec.dtype.value}{list(spec.shape)}"

    return {
        "inputs": [said(each) for each in signature.inputs],
        "outputs": [said(each) for each in signature.outputs],
        "labels": list(signature.labels),
    }


def text(found: dict[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    lines = [
        f"{found['model']} {found['version']} (release {found['release']}) for {found['target']}",
        f"size       {found['size_bytes']} bytes",
        f"bundle     {found['bundle']}",
        f"takes      {', '.join(found['signature']['inputs'])}",
        f"gives      {', '.join(found['signature']['outputs'])}",
        f"ships      {', '.join(found['variants'])}",
    ]
    if "identical" in found:
        lines.append("rebuilt    identical to the recipe's bundle")
    if found["executed_on"] is not None:
        lines.append(f"measured   on {found['executed_on']}")
    rows = [_row("original", "", found["original"], None, "")] if found["original"] else []
    for each in found["candidates"]:
        rows.append(_row(each["id"], each["verdict"], each.get("measurement"), each.get("agreement"), each["reason"]))
    if rows:
        lines += ["", f"{'candidate':14} {'verdict':11} {'p50 µs':>9} {'MB':>6} {'start ms':>8} {'KB':>7}  why", *rows]
    lines += [f"note: {each}" for each in found["notes"]]
    return "\n".join(lines)


def _row(name: str, verdict: str, figures: dict[str, Any] | None, agrees: dict[str, Any] | None, reason: str) -> str:
    measured = f"{'':9} {'':6} {'':8} {'':7}"
    if figures is not None:
        p50, start = figures["latency_p50_ms"] * 1e3, figures["cold_start_ms"]
        measured = f"{p50:9.2f} {figures['rss_mb']:6.1f} {start:8.0f} {figures['size_bytes'] / 1000:7.0f}"
    right = "" if agrees is None or agrees.get("accuracy") is None else f", accuracy {agrees['accuracy']:.4f}"
    return f"{name:14} {verdict:11} {measured}  {reason}{right}".rstrip()


def bench_text(found: dict[str, Any]) -> str:
    """Return a bench as lines for a terminal."""
    lines = [f"{'':10} {'p50 µs':>9} {'p95 µs':>9} {'MB':>7} {'start ms':>9} {'KB':>8}"]
    for side in ("original", "bundle"):
        each = found[side]
        p50, p95 = each["latency_ms"]["p50"] * 1e3, each["latency_ms"]["p95"] * 1e3
        size = each["size_bytes"] / 1000
        lines.append(f"{side:10} {p50:9.2f} {p95:9.2f} {each['rss_mb']:7.1f} {each['cold_start_ms']:9.0f} {size:8.0f}")
    ratio, agrees = found["ratio"], found["agreement"]
    lines.append(
        f"{found['bundle']['variant']}: {ratio['latency']:.2f} times as fast, {ratio['memory']:.2f} of the memory, "
        f"{ratio['cold_start']:.2f} of the cold start"
    )
    lines.append(
        f"agreement: worst cosine {agrees['cosine']:.6f}, largest difference {agrees['max_abs']:.3g}, "
        f"same class {agrees['top1']:.2%}"
    )
    return "\n".join(lines)
