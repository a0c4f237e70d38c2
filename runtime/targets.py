"""What a user may name on the command line: a preset, a file, a formula, or the folder of a search or a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evolution import Candidate, Study
from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, OpnasError, PresetError, presets
from graphir.backbone import BACKBONE_FORMAT
from graphir.checks import excerpt
from graphir.diff import Difference
from graphir.files import read_json

if TYPE_CHECKING:
    from codegen import BlockSizes

Target = AttentionGraph | Backbone


class TargetError(OpnasError, ValueError):
    """A name that means nothing here; the message has the nearest known ones."""


def resolve(text: str) -> Target:
    """The graph or backbone that ``text`` names.

    Args:
        text: a preset (``autobert-zero/6``), a graph or backbone file, the folder or study of a search (its best
            backbone) or one of its candidates (``RUN#17``), the folder of an exported model, or a formula
            (``softmax(Q @ K.T) @ V``).

    Raises:
        TargetError: where it is none of these.
        GraphError: where a file or formula is not well-formed.
    """
    if text in presets.names():
        return presets.get(text)
    path = Path(text)
    if _exists(path):
        if path.is_dir():
            return _of_folder(path)
        return _best_of(path, str(path)) if is_study(path) else load_target(path)
    candidate = candidate_named(text)
    if candidate is not None:
        return _with_named_graphs(candidate.backbone)
    if any(sign in text for sign in "@(+;"):
        return AttentionGraph.from_expression(text, name="formula")
    if path.suffix == ".json":
        raise TargetError(f"there is no file {text[:200]}")
    try:
        return presets.get(text)
    except PresetError as error:
        raise TargetError(str(error)) from None


def is_study(path: Path) -> bool:
    """Whether a file is the study of a search, or would be one if it were whole."""
    if not path.is_file() or path.suffix == ".db":
        return path.is_file()
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def candidate_named(text: str) -> Candidate | None:
    """The candidate that ``RUN#17`` or ``STUDY.db#17`` names; None where the text names something else.

    Raises:
        TargetError: where what stands before ``#`` is no search, or what stands after it no number.
        StudyError: where there is no such candidate, or the study cannot be read.
    """
    place, sign, number = text.rpartition("#")
    path = Path(place)
    if not sign or not place or not _exists(path):
        return None
    if path.is_dir() and folder_kind(path) == "search":
        path = path / "study.db"
    if not is_study(path) and path.name != "study.db":
        raise TargetError(f"{place} is no search: only the candidates of a search have numbers")
    if not number.isdecimal() or len(number) > 18:
        raise TargetError(f"a candidate is named by its number, such as {place}#17, not {excerpt(number)}")
    with Study.open(path, readonly=True) as study:
        return study.candidate(int(number))


FolderKind = Literal["search", "model"]


def folder_kind(folder: Path) -> FolderKind:
    """What a folder is: ``"search"`` for that of a search, ``"model"`` for one that `opnas export` wrote.

    Raises:
        TargetError: where it is neither, saying what each has.
    """
    if (folder / "backbone.json").is_file():
        return "model"
    if (folder / "config.json").is_file() and not _is_of_transformers(folder / "config.json"):
        return "search"  # or one that `Run.open` refuses, saying why
    raise TargetError(
        f"{folder} is neither the folder of a search, which has a config.json of opnas and a study.db, nor an exported "
        "model, which has a backbone.json"
    )


def folder_named(text: str) -> Path | None:
    """The folder that ``text`` names; None where it names something else. A preset's name is a preset's."""
    path = Path(text)
    return path if text not in presets.names() and _exists(path) and path.is_dir() else None


def _is_of_transformers(path: Path) -> bool:
    """Whether a configuration is one of transformers: a model that was not exported from here."""
    try:
        data = read_json(path)
    except OpnasError:
        return False
    return (
        isinstance(data, dict)
        and "format" not in data
        and bool({"model_type", "architectures"} & data.keys())
    )


def load_target(path: Path) -> Target:
    """Read a graph or backbone file.

    Raises:
        GraphError: where it is neither.
    """
    data = read_json(path)
    if isinstance(data, dict) and data.get("format") == BACKBONE_FORMAT:
        return Backbone.from_dict(data)
    return AttentionGraph.from_dict(data)


def graphs_of(target: Target) -> tuple[AttentionGraph, ...]:
    """The attention graphs of a target, equal ones once."""
    graphs = (target,) if isinstance(target, AttentionGraph) else target.graphs
    return tuple({graph.canonical_hash(): graph for graph in reversed(graphs)}.values())[::-1]


def block_sizes_of(target: Target) -> BlockSizes | None:
    """The sizes of the blocks beside attention of a backbone; a graph has none."""
    from codegen import BlockSizes

    if isinstance(target, AttentionGraph):
        return None
    kernel_sizes = tuple(layer.kernel_size for layer in target.layers if isinstance(layer, ConvLayer))
    return BlockSizes(target.hidden_size, target.heads, target.ffn_size, kernel_sizes)


def compare(first: Target, second: Target) -> Difference:
    """What must change to turn ``first`` into ``second``.

    Raises:
        TargetError: where one is a graph and the other a backbone.
    """
    match first, second:
        case (AttentionGraph(), AttentionGraph()) | (Backbone(), Backbone()):
            return first.diff(second)  # type: ignore[arg-type]  # mypy does not narrow both at once
    raise TargetError("compare two graphs or two backbones: one of these is a graph, the other a backbone")


def _of_folder(folder: Path) -> Backbone:
    if folder_kind(folder) == "model":
        return Backbone.load(folder / "backbone.json")
    return _best_of_run(folder)


def _best_of_run(folder: Path) -> Backbone:
    from runtime.run import Run

    return _best_of(Run.open(folder).study_path, str(folder))


def _best_of(path: Path, search: str) -> Backbone:
    with Study.open(path, readonly=True) as study:
        best = study.best(1)
    if not best:
        raise TargetError(f"the search in {search} has no successful candidate yet")
    return _with_named_graphs(best[0].backbone)


def _with_named_graphs(backbone: Backbone) -> Backbone:
    """The same with graphs named after their layers, ``candidate-30/1``, as those of presets are."""
    layers = (
        AttentionLayer(layer.graph.renamed(f"{backbone.name}/{number}"))
        if isinstance(layer, AttentionLayer)
        else layer
        for number, layer in enumerate(backbone.layers, 1)
    )
    return replace(backbone, layers=tuple(layers))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for a path, or one with a zero byte
        return False
