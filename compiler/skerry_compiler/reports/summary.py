"""The essentials of a bundle as plain data: what the terminal shows, what `--json` prints, what the page draws."""

from __future__ import annotations

import re
from typing import Any

from skerry_compiler import pareto, unsupported
from skerry_contracts import codec
from skerry_contracts.bundle import Manifest, Signature
from skerry_contracts.evidence import Candidate, Evidence, Measurement, Verdict
from skerry_contracts.tensor import TensorSpec

OWN_ENGINE = "native"  # nodes that run on another one, because this one has no form for them, fell back
_SPEED = re.compile(r"[0-9.]+ times as fast as the original(?:; |$)")


def summary(manifest: Manifest, bundle_id: str, evidence: Evidence | None) -> dict[str, Any]:
    """Return the essentials of a bundle as plain data."""
    found: dict[str, Any] = {
        "bundle": bundle_id,
        "model": manifest.model,
        "version": manifest.version,
        "release": manifest.release,
        "target": manifest.target,
        "size_bytes": sum(blob.size_bytes for blob in manifest.blobs().values()),
        "variants": [each.id for each in manifest.variants],
        "signature": _signature(manifest.signature),
        "recipe": _recipe(manifest),
        "ships_original": bool(evidence and evidence.ships_original),
        "objective": manifest.recipe.options.get("objective", "latency"),
        "executed_on": None,
        "original": None,
        "original_accuracy": None,
        "candidates": [],
        "operators": {},
        "fell_back": None,
        "notes": [],
        "board": None,
    }
    if evidence is not None:
        shipped = {each.id for each in manifest.variants}
        front = pareto.of(evidence.candidates)
        nodes = sum((evidence.operators or {}).values())
        found |= {
            "executed_on": evidence.executed_on,
            "host": evidence.host,
            "created_s": evidence.created_s,
            "rows": evidence.rows,
            "original": None if evidence.original is None else codec.to_plain(evidence.original),
            "original_accuracy": evidence.original_accuracy,
            "candidates": [
                {**_candidate(each, evidence.original, nodes), "ships": each.id in shipped, "pareto": each.id in front}
                for each in evidence.candidates
            ],
            "operators": dict(evidence.operators or {}),
            "fell_back": _fell_back(evidence, nodes),
            "notes": list(evidence.notes),
            "board": None if evidence.board is None else codec.to_plain(evidence.board),
        }
    return found


def _candidate(each: Candidate, original: Measurement | None, nodes: int) -> dict[str, Any]:
    """Return a candidate with its ratios to the original (speed above 1 is faster, the others below 1 are less) and its
    share of nodes without a form: a candidate that was made runs all of them in its one engine.
    """
    plain: dict[str, Any] = codec.to_plain(each)
    missing = min(unsupported.count(each.unsupported or ()), nodes)
    made = each.verdict is not Verdict.FAILED or each.measurement is not None
    if nodes and (made or missing):
        plain["nodes"] = {"total": nodes, "unsupported": missing, "share": round(missing / nodes, 4)}
    figures = each.measurement
    why = _SPEED.sub("", each.reason).removesuffix("ships too").removesuffix("; ").removeprefix("unmeasured: ")
    plain["why"] = why or ("slower than the original" if each.verdict is Verdict.SLOWER else "")
    if figures is None or original is None:
        return plain
    plain["ratio"] = {
        "latency": each.speed or _share(_time(original), _time(figures)),
        "memory": _share(figures.rss_mb, original.rss_mb),
        "cold_start": _share(figures.cold_start_ms, original.cold_start_ms),
        "size": _share(figures.size_bytes, original.size_bytes),
    }
    return plain


def _fell_back(evidence: Evidence, nodes: int) -> dict[str, Any] | None:
    """Return how many nodes of the chosen candidate run on another engine because the native one has no form for the
    model: none, or all, since a candidate runs in one engine. `unsupported` counts the nodes that are the cause.
    """
    chosen = next((each for each in evidence.candidates if each.verdict is Verdict.CHOSEN), None)
    if chosen is None or not nodes:
        return None
    own = [each for each in evidence.candidates if each.engine == OWN_ENGINE]
    lost = [each for each in own if each.unsupported]
    made = [each for each in own if each.verdict is not Verdict.FAILED]
    fell = nodes if lost and not made and chosen.engine != OWN_ENGINE else 0
    missing = min((unsupported.count(each.unsupported or ()) for each in lost), default=0) if fell else 0
    return {
        "engine": chosen.engine,
        "nodes": nodes,
        "fell_back": fell,
        "share": round(fell / nodes, 4),
        "unsupported": missing,
    }


def _time(figures: Measurement) -> float:
    return figures.latency_p50_ms if figures.cpu_ms is None else figures.cpu_ms


def _share(one: float, other: float) -> float:
    return round(one / other, 4) if other else 0.0


def _recipe(manifest: Manifest) -> dict[str, Any]:
    """Return the recipe without the profile, which is a document of its own."""
    plain: dict[str, Any] = codec.to_plain(manifest.recipe)
    plain["options"] = {key: value for key, value in plain.get("options", {}).items() if key != "profile"}
    return plain


def _signature(signature: Signature) -> dict[str, Any]:
    def said(spec: TensorSpec) -> str:
        return f"{spec.name} {spec.dtype.value}{list(spec.shape)}"

    return {
        "inputs": [said(each) for each in signature.inputs],
        "outputs": [said(each) for each in signature.outputs],
        "labels": list(signature.labels),
    }
