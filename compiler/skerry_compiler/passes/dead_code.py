"""What no output needs is dropped: nodes, initializers, and the types of values that are gone. No-op nodes are
bypassed.
"""

from __future__ import annotations

from onnx import GraphProto, ModelProto

from skerry_compiler import graph as graphs


class DeadCode:
    """Afterwards every node and initializer reaches an output."""

    name = "dead-code"

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class."""
        graph = model.graph
        needed = {value.name for value in graph.output}
        gone = []
        for node in reversed(graph.node):
            if needed.isdisjoint(node.output):
                gone.append(node)
                continue
            needed.update(name for name in node.input if name)
            for inner in [
                each
                for attribute in node.attribute
                for each in ([attribute.g] if attribute.HasField("g") else attribute.graphs)
            ]:
                needed.update(name for sub in _all(inner) for name in sub)
        graphs.remove_nodes(graph, gone)
        for stored in [each for each in graph.initializer if each.name not in needed]:
            graph.initializer.remove(stored)
        for value in [each for each in graph.value_info if each.name not in needed]:
            graph.value_info.remove(value)
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """Every initializer is used."""
        used = graphs.uses(model.graph)
        inner = any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute)
        idle = [each.name for each in model.graph.initializer if not used[each.name]]
        return f"initializer {idle[0]} is not used" if idle and not inner else None


def _all(graph: GraphProto) -> list[list[str]]:
    """Return what is read in a graph inside a node; its outputs may be values from outside, too."""
    read = [list(node.input) for inner in graphs.walk(graph) for node in inner.node]
    return read + [[value.name for value in inner.output] for inner in graphs.walk(graph)]
