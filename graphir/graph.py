"""`AttentionGraph`: one attention structure as an immutable graph of primitive operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

import networkx as nx

from graphir.checks import excerpt
from graphir.errors import GraphError, InputError
from graphir.files import read_json, require_format, require_keys, write_json
from graphir.ops import ValueType
from graphir.validation import INPUT_NAMES, check_graph, check_name, show_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphir.cost import Cost
    from graphir.diff import Difference

GRAPH_FORMAT = "opnas.graph/1"


class Node(NamedTuple):
    """One operation of a graph and the names of its operands, in order."""

    id: str
    op: str
    inputs: tuple[str, ...]


class AttentionGraph:
    """A directed acyclic graph of primitive operations from Q, K, V to one ``S x D`` value.

    A graph is checked when it is made and never changes after; a mutation returns a new one.

    Args:
        nodes: the nodes in topological order.
        output: name of the node (or input) that is the result.
        inputs: names of the inputs, a selection of Q, K, V; by default those that are used.
        name: a display name.

    Raises:
        GraphError: where the graph is not well-formed; the message names the node.

    Example:
        >>> graph = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V", name="plain")
        >>> [node.op for node in graph.nodes]
        ['transpose', 'matmul', 'scale', 'softmax', 'matmul']
        >>> graph.equation()
        'softmax(scale(Q @ K.T)) @ V'
    """

    nodes: tuple[Node, ...]
    output: str
    inputs: tuple[str, ...]
    name: str
    _types: dict[str, ValueType]

    def __init__(
        self,
        nodes: Iterable[Node],
        output: str,
        inputs: Sequence[str] | None = None,
        name: str = "graph",
    ) -> None:
        nodes = tuple(nodes)
        if inputs is None:
            used = {output}.union(*(node.inputs for node in nodes))
            inputs = [i for i in INPUT_NAMES if i in used]
        inputs = tuple(sorted(inputs, key=_input_order))
        types = check_graph(inputs, nodes, output)
        vars(self).update(nodes=nodes, output=output, inputs=inputs, name=check_name(name), _types=types)

    def __setattr__(self, attribute: str, value: Any) -> NoReturn:
        raise AttributeError(f"a graph never changes: make a new one instead of setting {attribute!r}")

    def __delattr__(self, attribute: str) -> NoReturn:
        raise AttributeError(f"a graph never changes: {attribute!r} cannot be deleted")

    # -- the graph itself

    @property
    def types(self) -> Mapping[str, ValueType]:
        """The type of every input and node by name, e.g. ``("S", "D")``."""
        return MappingProxyType(self._types)

    @cached_property
    def nx(self) -> nx.DiGraph:
        """The graph as a frozen `networkx.DiGraph`.

        Nodes carry ``op`` ("input" for inputs) and ``type`` ("S x D"); an edge carries ``operands``, the positions at
        which its source is an operand of its target: "0", "1", or "0,1" where both operands are the same value.
        All are plain text, so that every writer of networkx takes them.
        """
        graph = nx.DiGraph(name=self.name, output=self.output)
        for name in self.inputs:
            graph.add_node(name, op="input", type=show_type(self._types[name]))
        for node in self.nodes:
            graph.add_node(node.id, op=node.op, type=show_type(self._types[node.id]))
            for operand in dict.fromkeys(node.inputs):
                positions = [str(i) for i, source in enumerate(node.inputs) if source == operand]
                graph.add_edge(operand, node.id, operands=",".join(positions))
        return nx.freeze(graph)

    def renamed(self, name: str) -> AttentionGraph:
        """The same graph under another display name."""
        return AttentionGraph(self.nodes, self.output, self.inputs, name)

    def __len__(self) -> int:
        return len(self.nodes)

    def __eq__(self, other: object) -> bool:
        """Equal nodes, operands and output; names of the graphs do not count. See also `canonical_hash`."""
        if not isinstance(other, AttentionGraph):
            return NotImplemented
        return (self.nodes, self.output, self.inputs) == (other.nodes, other.output, other.inputs)

    def __hash__(self) -> int:
        return hash((self.nodes, self.output, self.inputs))

    def __repr__(self) -> str:
        return f"AttentionGraph({self.name!r}: {self.equation()})"

    # -- in and out

    @classmethod
    def from_expression(cls, text: str, name: str = "graph") -> AttentionGraph:
        """Read a formula such as ``softmax(scale(Q @ K.T)) @ V``; the inverse of ``equation("text")``.

        Every operation by its name, with ``@``, ``+``, unary ``-`` and ``.T`` as shorthands, and
        assignments before the result: ``t = logsigmoid(K); softmax(Q @ t.T) @ t``.

        Raises:
            GraphError: where the text is not such a formula or the graph is ill-typed.
        """
        from graphir.expression import parse_expression

        nodes, output = parse_expression(text)
        return cls(nodes, output, name=name)

    @classmethod
    def from_dict(cls, data: Any) -> AttentionGraph:
        """Read the file form (``opnas.graph/1``). Raises `GraphError` for anything else."""
        require_format(data, GRAPH_FORMAT, "graph")
        require_keys(data, {"format", "name", "inputs", "nodes", "output"}, "graph")
        inputs, output, entries = data["inputs"], data["output"], data["nodes"]
        if not isinstance(inputs, list) or not all(isinstance(i, str) for i in inputs):
            raise GraphError("'inputs' must be a list of strings")
        if not isinstance(output, str):
            raise GraphError("'output' must be a string, the id of a node")
        if not isinstance(entries, list):
            raise GraphError("'nodes' must be a list")
        return cls([_node_from_dict(entry) for entry in entries], output, inputs, data["name"])

    def to_dict(self) -> dict[str, Any]:
        """The file form, ready for JSON."""
        return {
            "format": GRAPH_FORMAT,
            "name": self.name,
            "inputs": list(self.inputs),
            "nodes": [{"id": n.id, "op": n.op, "inputs": list(n.inputs)} for n in self.nodes],
            "output": self.output,
        }

    @classmethod
    def load(cls, path: str | Path) -> AttentionGraph:
        """Read a graph file.

        Raises:
            GraphError: where the file is not a graph of a known version, or is larger than 4 MB.
            OSError: where it cannot be read.
        """
        return cls.from_dict(read_json(path))

    def save(self, path: str | Path) -> None:
        """Write the file form as JSON."""
        write_json(path, self.to_dict())

    # -- looking at it

    def canonical_hash(self) -> str:
        """A hex digest that is equal for graphs that mean the same (see `graphir.canonical`)."""
        from graphir.canonical import canonical_hash

        return canonical_hash(self)

    def equation(self, style: Literal["text", "latex"] = "text") -> str:
        """The formula, as text that `from_expression` reads or as LaTeX. Shared values are named first."""
        if style == "text":
            from graphir.expression import text_equation

            return text_equation(self)
        if style == "latex":
            from graphir.latex import latex_equation

            return latex_equation(self)
        raise InputError(f"style must be 'text' or 'latex', not {style!r}")

    def summary(self) -> str:
        """A table of the nodes with operations, operands and types, for a terminal."""
        from graphir.summary import summarize_graph

        return summarize_graph(self)

    def cost(self, seq_len: int = 512, head_dim: int = 64, heads: int = 8, batch: int = 1) -> Cost:
        """Operations, parameters and bytes (with and without fusion) of one forward pass."""
        from graphir.cost import graph_cost

        return graph_cost(self, seq_len=seq_len, head_dim=head_dim, heads=heads, batch=batch)

    def diff(self, other: AttentionGraph) -> Difference:
        """What must change to turn this graph into ``other``."""
        from graphir.diff import diff_graphs

        return diff_graphs(self, other)

    def to_dot(self) -> str:
        """The graph in Graphviz's DOT language."""
        from graphir.markup import graph_to_dot

        return graph_to_dot(self)

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        from graphir.markup import graph_to_mermaid

        return graph_to_mermaid(self)

    def to_svg(self) -> str:
        """The layered graph as one ``svg`` element."""
        from graphir.pictures import graph_scene
        from graphir.svg import to_svg

        return to_svg(graph_scene(self))

    def _repr_svg_(self) -> str:
        """For notebooks."""
        return self.to_svg()

    def _repr_latex_(self) -> str:
        """For notebooks and what is made of them in LaTeX."""
        return rf"$\displaystyle {self.equation('latex')}$"

    def draw(self, path: str | Path) -> None:
        """Draw the layered graph to ``path``, an ``.svg`` or ``.png`` file.

        Raises:
            InputError: for another suffix.
        """
        from graphir.drawing import draw_graph

        draw_graph(self, path)


def _input_order(name: str) -> tuple[int, str]:
    return (INPUT_NAMES.index(name) if name in INPUT_NAMES else len(INPUT_NAMES), str(name))


def _node_from_dict(entry: Any) -> Node:
    if not isinstance(entry, dict):
        raise GraphError(f"every node must be an object with id, op and inputs, not {excerpt(entry)}")
    require_keys(entry, {"id", "op", "inputs"}, "node")
    node_id, op, inputs = entry["id"], entry["op"], entry["inputs"]
    if not isinstance(node_id, str):
        raise GraphError(f"the 'id' of a node must be a string, not {excerpt(node_id)}")
    if not isinstance(op, str):
        raise GraphError(f"the 'op' of a node must be a string, not {excerpt(op)}", node_id[:60])
    if not isinstance(inputs, list) or not all(isinstance(i, str) for i in inputs):
        raise GraphError("'inputs' of a node must be a list of strings", node_id[:60])
    return Node(node_id, op, tuple(inputs))
