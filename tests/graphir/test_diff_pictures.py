"""Differences as pictures: what became of each node is its colour."""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest

from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, InputError, presets
from graphir.diff_pictures import LEGEND, difference_scene
from graphir.scene import INKS, LOOKS, Arrow, Label, Rectangle, Scene
from graphir.svg import to_svg

PLAIN = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V", name="old")


def looks(scene: Scene) -> Counter[str]:
    """How many boxes have each look, the legend aside."""
    return Counter(s.look for s in scene.shapes if isinstance(s, Rectangle)) - Counter(
        look for look, _ in LEGEND
    )


def inks(scene: Scene) -> Counter[str]:
    return Counter(shape.ink for shape in scene.shapes if isinstance(shape, Arrow))


def drawn(after: str) -> Scene:
    return PLAIN.diff(AttentionGraph.from_expression(after, name="new")).scene()


def test_equal_graphs_have_no_colour_but_that_of_the_legend() -> None:
    scene = drawn("softmax(scale(Q @ K.T)) @ V")
    assert looks(scene).keys() == {"plain"}
    assert inks(scene).keys() == {"edge"}


@pytest.mark.parametrize(
    ("after", "coloured", "edges"),
    [
        # neg and its two edges come, one edge goes; who read the operand that is replaced is wired otherwise
        ("softmax(scale(Q @ K.T)) @ -V", {"added": 1, "rewired": 2}, {"added": 2, "removed": 1}),
        ("softmax(Q @ K.T) @ V", {"removed": 1, "rewired": 2}, {"added": 1, "removed": 2}),
        ("softmax(logsigmoid(Q @ K.T)) @ V", {"changed": 2}, {}),
        ("softmax(scale(Q @ K.T)) @ K", {"rewired": 2}, {"added": 1, "removed": 1}),
    ],
)  # fmt: skip
def test_each_kind_of_change_has_its_colour(
    after: str, coloured: dict[str, int], edges: dict[str, int]
) -> None:
    scene = drawn(after)
    assert {look: n for look, n in looks(scene).items() if look != "plain"} == coloured
    assert {ink: n for ink, n in inks(scene).items() if ink != "edge"} == edges


def test_the_order_of_operands_counts_where_it_does_and_only_there() -> None:
    def of(before: str, after: str) -> Counter[str]:
        one, other = AttentionGraph.from_expression(before), AttentionGraph.from_expression(after)
        return looks(one.diff(other).scene())

    assert of("sub(Q, K)", "sub(K, Q)")["rewired"] == 2
    assert of("Q + K", "K + Q")["rewired"] == 0


@pytest.mark.parametrize("seed", range(12))
def test_the_colours_agree_with_the_list_of_changes(random_graph, seed: int) -> None:
    found = random_graph(seed).diff(random_graph(seed + 1))
    seen = looks(found.scene())
    assert seen["added"] == len(found.of_kind("added")), f"seed {seed}"
    assert seen["removed"] == len(found.of_kind("removed")), f"seed {seed}"
    assert seen["changed"] == 2 * len(found.of_kind("changed")), f"seed {seed}"


def test_the_legend_names_every_colour() -> None:
    texts = {shape.text for shape in drawn("Q").shapes if isinstance(shape, Label)}
    assert {meaning for _, meaning in LEGEND} <= texts
    assert {"old: old", "new: new"} <= texts


def test_layers_of_backbones_stand_beside_each_other_with_the_graphs_that_differ() -> None:
    other = AttentionGraph.from_expression("softmax(Q @ K.T) @ V")
    before = Backbone((ConvLayer(3), AttentionLayer(PLAIN), AttentionLayer(PLAIN)), 8, 2, 16, "before")
    after = Backbone((ConvLayer(5), AttentionLayer(PLAIN), AttentionLayer(other)), 8, 2, 16, "after")
    scene = before.diff(after).scene()
    titles = [s.text for s in scene.shapes if isinstance(s, Label) and s.text.startswith(("old: ", "new: "))]
    assert titles == ["old: layer 3", "new: layer 3"]
    assert looks(scene)["changed"] == 4  # two layers of each
    longer = Backbone((*before.layers, ConvLayer(7)), 8, 2, 16, "longer")
    assert looks(before.diff(longer).scene())["added"] == 1
    assert looks(longer.diff(before).scene())["removed"] == 1


def test_everything_lies_on_the_paper_apart() -> None:
    for pair in (("autobert-zero", "bert"), ("autobert-zero/2", "autobert-zero/4")):
        scene = presets.get(pair[0]).diff(presets.get(pair[1])).scene()  # type: ignore[arg-type]
        boxes = [shape for shape in scene.shapes if isinstance(shape, Rectangle)]
        for number, a in enumerate(boxes):
            assert 0 < a.x < a.x + a.width < scene.width
            assert 0 < a.y < a.y + a.height < scene.height
            for b in boxes[:number]:
                beside = a.x + a.width <= b.x or b.x + b.width <= a.x
                assert beside or a.y + a.height <= b.y or b.y + b.height <= a.y


def test_a_difference_is_drawn_to_a_file(tmp_path: Path) -> None:
    found = PLAIN.diff(AttentionGraph.from_expression("Q"))
    found.draw(tmp_path / "d.svg")
    assert ElementTree.parse(tmp_path / "d.svg").getroot().tag.endswith("svg")
    found.draw(tmp_path / "d.png")
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"\.svg or \.png"):
        found.draw(tmp_path / "d.pdf")


def test_a_graph_and_a_backbone_have_no_common_picture() -> None:
    with pytest.raises(InputError, match="two graphs or two backbones"):
        difference_scene(PLAIN, presets.get("bert"))


def test_every_look_and_ink_can_be_printed() -> None:
    shapes = [Rectangle(0, 0, 1, 1, look) for look in LOOKS]
    arrows = [Arrow(((0.0, 0.0), (0.0, 9.0)), ink) for ink in INKS]
    root = ElementTree.fromstring(to_svg(Scene("all", 10, 10, (*shapes, *arrows))))
    classes = {name for element in root.iter() for name in (element.get("class") or "").split()}
    assert LOOKS.keys() | INKS.keys() <= classes
