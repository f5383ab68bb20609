"""What an engine has no form for: every node with its operator, opset, reason and the nearest form that there is."""

from __future__ import annotations

from collections.abc import Iterable

from skerry_compiler.errors import UnsupportedError
from skerry_contracts.evidence import Unsupported

MAX_NAME = 120
MAX_REASON = 300
MAX_NAMED = 2000  # nodes named one by one: evidence must stay a document that a device reads
SAID = 12  # groups in an error's one line

# Operators without a form of their own, and what says the same in operators that have one.
NEAREST = {
    "Col2Im": "ConvTranspose with a constant kernel",
    "DFT": "MatMul by a constant matrix",
    "DeformConv": "Conv",
    "EyeLike": "a constant",
    "GridSample": "Resize, or Gather by constant indices",
    "If": "a condition that is a constant",
    "Loop": "the body written out, once a step",
    "MaxRoiPool": "MaxPool of a Slice with constant bounds",
    "MaxUnpool": "Resize, or ConvTranspose",
    "MelWeightMatrix": "a constant",
    "NonMaxSuppression": "all boxes and scores as outputs, suppressed behind the model",
    "NonZero": "TopK of a constant k",
    "QLinearMatMul": "MatMul between DequantizeLinear and QuantizeLinear",
    "RoiAlign": "Resize of a Slice with constant bounds",
    "STFT": "Conv with a constant kernel of windowed waves",
    "Scan": "RNN, GRU or LSTM, or the body written out",
    "Unique": "TopK of a constant k",
}
_FAMILIES = (
    ("Random", "noise as an input of the model"),
    ("Multinomial", "noise as an input of the model"),
    ("Bernoulli", "noise as an input of the model"),
    ("Sequence", "Split and Concat of tensors"),
    ("Optional", "an input that is always given"),
    ("String", "text as numbers before the model"),
    ("Regex", "text as numbers before the model"),
    ("Tfidf", "text as numbers before the model"),
)


def one(operator: str, domain: str, opset: int, node: str, why: str) -> Unsupported:
    """Return one node that an engine does not take; "what is wrong; what is supported" gives the nearest form."""
    reason, _, nearest = why.partition("; ")
    if not nearest:
        family = next((words for start, words in _FAMILIES if start.lower() in operator.lower()), "")
        nearest = NEAREST.get(operator, family) if domain in ("", "ai.onnx") else ""
    return Unsupported(
        operator[:MAX_NAME], opset, (node[:MAX_NAME],), 1, reason[:MAX_REASON], nearest[:MAX_REASON], domain[:MAX_NAME]
    )


def grouped(found: Iterable[Unsupported]) -> tuple[Unsupported, ...]:
    """Return nodes of the same operator with the same reason as one, in the order in which they were found; those
    beyond `MAX_NAMED` as one group that counts them.
    """
    groups: dict[tuple[str, str, int, str, str], list[str]] = {}
    more = 0
    for place, each in enumerate(found):
        if place < MAX_NAMED:
            key = (each.operator, each.domain, each.opset, each.reason, each.nearest)
            groups.setdefault(key, []).extend(each.nodes)
        else:
            more += each.count
    named = [
        Unsupported(operator, opset, tuple(nodes), len(nodes), reason, nearest, domain)
        for (operator, domain, opset, reason, nearest), nodes in groups.items()
    ]
    return (*named, *([Unsupported("others", 0, (), more, "too many to be named here")] if more else ()))


def count(found: Iterable[Unsupported]) -> int:
    """Return how many nodes these are."""
    return sum(each.count for each in found)


def words(each: Unsupported) -> str:
    """Return a group in words.

    >>> words(Unsupported("Conv", 17, ("a", "b"), 2, "3 spatial axes", "1 or 2 are supported"))
    "Conv (2 nodes, e.g. 'a', opset 17): 3 spatial axes; nearest supported form: 1 or 2 are supported"
    """
    if not each.nodes:
        return f"{each.count} other nodes: {each.reason}"
    nodes = f"{each.count} nodes, e.g. {each.nodes[0]!r}" if each.count > 1 else f"node {each.nodes[0]!r}"
    domain = f"{each.domain} " if each.domain not in ("", "ai.onnx") else ""
    nearest = f"; nearest supported form: {each.nearest}" if each.nearest else ""
    return f"{each.operator} ({nodes}, {domain}opset {each.opset}): {each.reason}{nearest}"


def at_node(operator: str, domain: str, opset: int, node: str, why: str) -> UnsupportedError:
    """Return the error for one node: "what is wrong; what is supported"."""
    said = f"{operator} (opset {opset}) at node {node!r:.120}: {why}"
    found = (one(operator, domain, opset, node, why),)
    return UnsupportedError(said, hint="another engine can run this model", nodes=found)


def error(engine: str, found: Iterable[Unsupported]) -> UnsupportedError:
    """Return the error that names every node which an engine does not take."""
    groups = grouped(found)
    said = "; ".join(words(each) for each in groups[:SAID])
    more = f"; and {count(groups[SAID:])} more nodes" if len(groups) > SAID else ""
    return UnsupportedError(
        f"{engine} has no form for {said}{more}", hint="another engine can run this model", nodes=groups
    )
