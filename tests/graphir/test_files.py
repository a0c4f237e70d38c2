"""Graph and backbone files: round trips, and refusals of what strangers may send."""

import json
from pathlib import Path

import pytest

from graphir import EXTENDED_OPERATIONS, AttentionGraph, AttentionLayer, Backbone, GraphError, presets
from graphir.files import MAX_FILE_BYTES

PLAIN = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V", name="plain")


@pytest.mark.parametrize("seed", range(40))
def test_a_random_graph_survives_dict_and_file(random_graph, tmp_path: Path, seed: int) -> None:
    graph = random_graph(seed, 20, EXTENDED_OPERATIONS)
    assert AttentionGraph.from_dict(graph.to_dict()) == graph, f"seed {seed}"
    graph.save(tmp_path / "graph.json")
    loaded = AttentionGraph.load(tmp_path / "graph.json")
    assert (loaded, loaded.name) == (graph, graph.name), f"seed {seed}"
    assert [path.name for path in tmp_path.iterdir()] == ["graph.json"], "nothing else is left behind"


def test_the_file_form_is_version_1() -> None:
    data = AttentionGraph.from_expression("-Q", name="minus").to_dict()
    assert data == {
        "format": "opnas.graph/1",
        "name": "minus",
        "inputs": ["Q"],
        "nodes": [{"id": "n0", "op": "neg", "inputs": ["Q"]}],
        "output": "n0",
    }


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "graph.json"
    path.write_text("old")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        PLAIN.save(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def changed(**entries: object) -> dict[str, object]:
    return PLAIN.to_dict() | entries


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed(format="opnas.graph/2"), "unknown format 'opnas.graph/2': this version reads 'opnas.graph/1'"),
        (changed(format=None), "unknown format None"),
        (changed(format=["x"]), "unknown format a list"),
        (changed(extra=1), "unknown keys 'extra'"),
        ({k: v for k, v in PLAIN.to_dict().items() if k != "output"}, "lacks output"),
        (changed(inputs="QKV"), "'inputs' must be a list of strings"),
        (changed(inputs=[1]), "'inputs' must be a list of strings"),
        (changed(output=3), "'output' must be a string"),
        (changed(nodes={}), "'nodes' must be a list"),
        (changed(nodes=[1]), "every node must be an object"),
        (changed(nodes=[{"id": "a", "op": "neg"}]), "the node lacks inputs"),
        (changed(nodes=[{"id": "a", "op": "neg", "inputs": ["Q"], "x": 1}]), "unknown keys 'x'"),
        (changed(nodes=[{"id": 1, "op": "neg", "inputs": ["Q"]}]), "must be a string, not 1"),
        (changed(nodes=[{"id": "a", "op": [], "inputs": ["Q"]}]), "must be a string, not a list"),
        (changed(nodes=[{"id": "a", "op": "neg", "inputs": "Q"}]), "must be a list of strings"),
        (changed(name='"; import os'), "is not allowed"),
        (changed(name=None), "is not allowed"),
        (changed(name=["x"]), "is not allowed"),
        ([], "holds one JSON object, not a list"),
        ("graph", "holds one JSON object"),
        (None, "holds one JSON object"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_graph_of_this_version_is_refused(tmp_path: Path, data: object, words: str) -> None:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(data))
    with pytest.raises(GraphError) as caught:
        AttentionGraph.load(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"\xff\xfe\xfa",
        b"\x00" * 100,
        b'{"a": ' * 50_000,
        b"[" * 200_000,
        b'{"format": "opnas.graph/1", "name": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"format": ' + b"9" * 10_000 + b"}",
    ],
    ids=["empty", "words", "not utf-8", "zeros", "deep objects", "deep lists", "deep name", "long number"],
)
def test_a_file_that_is_not_json_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "graph.json"
    path.write_bytes(raw)
    with pytest.raises(GraphError) as caught:
        AttentionGraph.load(path)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("depth", range(100, 1200, 50))
def test_deep_nesting_anywhere_is_refused_and_never_a_recursion_error(depth: int) -> None:
    deep: object = "x"
    for _ in range(depth):
        deep = [deep]
    for key in ("format", "name", "inputs", "nodes", "output"):
        with pytest.raises(GraphError):
            AttentionGraph.from_dict(changed(**{key: deep}))


def test_a_file_of_10_mb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    path.write_text(" " * 10_000_000 + json.dumps(PLAIN.to_dict()))
    with pytest.raises(GraphError, match=r"big.json is 10,\d+,\d+ bytes: files of at most"):
        AttentionGraph.load(path)
    with pytest.raises(GraphError, match="bytes"):
        Backbone.load(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AttentionGraph.load(tmp_path / "none.json")


def test_the_largest_backbone_can_be_saved_and_loaded(tmp_path: Path) -> None:
    nodes = [{"id": f"{'n' * 37}{0:03}", "op": "euclidean_distance", "inputs": ["Q", "Q"]}]
    previous = nodes[0]["id"]
    for i in range(1, 63):
        nodes.append({"id": f"{'n' * 37}{i:03}", "op": "euclidean_distance", "inputs": [previous, previous]})
        previous = nodes[-1]["id"]
    nodes.append({"id": f"{'n' * 37}{63:03}", "op": "matmul", "inputs": [previous, "Q"]})
    data = {"format": "opnas.graph/1", "name": "g" * 80, "inputs": ["Q"], "nodes": nodes}
    data["output"] = nodes[-1]["id"]
    backbone = Backbone((AttentionLayer(AttentionGraph.from_dict(data)),) * 128)
    backbone.save(tmp_path / "b.json")
    assert (tmp_path / "b.json").stat().st_size < MAX_FILE_BYTES
    assert Backbone.load(tmp_path / "b.json") == backbone


def test_a_written_file_has_the_usual_mode_and_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "graph.json")
    PLAIN.save(tmp_path / "link.json")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "graph.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_is_no_plain_file_is_written_and_never_replaced() -> None:
    before = Path("/dev/null").stat()
    PLAIN.save("/dev/null")
    assert Path("/dev/null").stat().st_rdev == before.st_rdev != 0


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        PLAIN.save(tmp_path / "gone" / "graph.json")
    assert caught.value.filename == str(tmp_path / "gone" / "graph.json")


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_survives_a_file(tmp_path: Path, name: str) -> None:
    preset = presets.get(name)
    preset.save(tmp_path / "preset.json")
    assert type(preset).load(tmp_path / "preset.json") == preset
