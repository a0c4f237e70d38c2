"""Pictures: files, labels, escaping, the same bytes every time."""

import os
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, presets
from graphir.drawing import MAX_PIXELS, draw_scene
from graphir.scene import Label, Scene

PLAIN = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V", name="plain attention")


def labels(path: Path) -> list[str]:
    """The texts of an SVG that parses."""
    texts = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()).strip() for text in texts]


def png_size(path: Path) -> tuple[int, int]:
    raw = path.read_bytes()
    assert raw.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", raw[16:24])


def test_an_svg_holds_name_formula_operations_and_types_as_text(tmp_path: Path) -> None:
    PLAIN.draw(tmp_path / "g.svg")
    found = labels(tmp_path / "g.svg")
    assert {"plain attention", "softmax(scale(Q @ K.T)) @ V", "Q", "K", "V", "output"} <= set(found)
    assert [found.count(x) for x in ("softmax", "scale", "transpose", "matmul")] == [1, 1, 1, 2]
    assert [found.count(x) for x in ("S × D", "D × S", "S × S", "1", "2")] == [5, 1, 3, 2, 2]


def test_a_png_is_a_picture_of_some_size(tmp_path: Path) -> None:
    PLAIN.draw(tmp_path / "g.PNG")
    width, height = png_size(tmp_path / "g.PNG")
    assert width > 300
    assert height > 500


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "a.png", "b.png"):
        PLAIN.draw(tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b"<dc:date>" not in (tmp_path / "a.svg").read_bytes()


@pytest.mark.parametrize("name", ["g.pdf", "g", "g.svg.exe", ".svg"])
def test_another_suffix_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    for drawn in (PLAIN, presets.get("bert")):
        with pytest.raises(ValueError, match=r"use a name that ends in \.svg or \.png"):
            drawn.draw(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_special_characters_are_escaped_in_an_svg(tmp_path: Path) -> None:
    hostile = '</text><script>"$x^2$" & more'
    draw_scene(Scene(hostile, 100, 100, (Label(50, 50, hostile),)), tmp_path / "t.svg")
    assert labels(tmp_path / "t.svg") == [hostile]
    title = ElementTree.parse(tmp_path / "t.svg").find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text == hostile


def test_a_backbone_shows_every_layer_and_each_structure_once(tmp_path: Path) -> None:
    presets.get("autobert-zero").draw(tmp_path / "b.svg")
    found = labels(tmp_path / "b.svg")
    assert found.count("convolution, kernel 7") == 2
    assert found.count("attention C") == 2
    titles = ["A: layer 2", "B: layer 4", "C: layers 6, 8", "D: layer 10", "E: layer 12"]
    assert [text for text in found if text in titles] == titles
    assert found.count("output") == 5


def test_a_run_of_equal_layers_is_named_by_its_ends(tmp_path: Path) -> None:
    presets.get("bert").draw(tmp_path / "b.svg")
    assert "A: layers 1 to 12" in labels(tmp_path / "b.svg")


def test_a_backbone_of_convolutions_alone_is_drawn(tmp_path: Path) -> None:
    Backbone((ConvLayer(3), ConvLayer(5)), 8, 2, 16).draw(tmp_path / "b.svg")
    assert "convolution, kernel 5" in labels(tmp_path / "b.svg")


def test_a_very_deep_backbone_stays_within_the_largest_picture(tmp_path: Path) -> None:
    deep = Backbone((*[ConvLayer(3)] * 127, AttentionLayer(PLAIN)), 8, 2, 16)
    deep.draw(tmp_path / "b.png")
    assert max(png_size(tmp_path / "b.png")) <= MAX_PIXELS


def test_drawing_leaves_no_setting_behind(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    PLAIN.draw(tmp_path / "g.png")
    assert dict(matplotlib.rcParams) == before


HOSTILE = """
backend: TkAgg
font.size: 40
lines.linewidth: 9
text.usetex: True
svg.fonttype: path
savefig.bbox: tight
savefig.facecolor: black
axes.facecolor: red
path.sketch: 5, 100, 2
patch.linewidth: 7
"""


def drawn_elsewhere(folder: Path, name: str, before: str = "pass", **environment: str) -> bytes:
    """What a new process draws in ``folder``, after ``before`` has run."""
    code = f"{before}; from graphir import presets; presets.get('bert/1').draw({name!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return (folder / name).read_bytes()


@pytest.mark.parametrize("name", ["g.svg", "g.png"])
def test_no_setting_of_the_user_s_matplotlib_changes_a_drawing(tmp_path: Path, name: str) -> None:
    presets.get("bert/1").draw(tmp_path / name)
    wanted = (tmp_path / name).read_bytes()
    inline = "module://matplotlib_inline.backend_inline"
    assert drawn_elsewhere(tmp_path, name, MPLBACKEND=inline) == wanted
    assert drawn_elsewhere(tmp_path, name, MPLBACKEND="no such thing") == wanted
    before = "import matplotlib as m, matplotlib.style; m.style.use('dark_background'); m.rcParams['font.size'] = 40"
    assert drawn_elsewhere(tmp_path, name, before, MPLBACKEND="agg") == wanted
    (tmp_path / "matplotlibrc").write_text(HOSTILE)
    assert drawn_elsewhere(tmp_path, name) == wanted


def test_settings_that_matplotlib_cannot_read_are_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe: \xff")
    code = (
        "from graphir import OpnasError, presets\n"
        "try: presets.get('bert/1').draw('g.png')\n"
        "except OpnasError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.startswith("matplotlib cannot be loaded, so nothing is drawn"), done.stderr


def test_the_backend_that_was_asked_for_is_left_to_who_plots_beside_us(tmp_path: Path) -> None:
    after = "import matplotlib, os; print(matplotlib.rcParams['backend'], os.environ['MPLBACKEND'])"
    code = f"from graphir import presets; presets.get('bert/1').draw('g.png'); {after}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "MPLBACKEND": "pdf"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["pdf", "pdf"], done.stderr


def test_a_drawing_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "g.svg").write_text("old")

    def fails(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(OSError, match="No space left"):
        PLAIN.draw(tmp_path / "g.svg")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("g.svg", "old")]


@pytest.mark.parametrize(("name", "avoided"), [("g.png", "matplotlib.pyplot"), ("g.svg", "matplotlib")])
def test_drawing_loads_no_more_than_it_needs(tmp_path: Path, name: str, avoided: str) -> None:
    code = (
        "import sys; from graphir import presets; "
        f"presets.get('bert/1').draw({str(tmp_path / name)!r}); "
        f"sys.exit({avoided!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def boxes(path: Path) -> list[tuple[float, ...]]:
    """The rectangles of an SVG but for its paper."""
    found = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}rect")
    return [
        tuple(float(box.get(name, "nan")) for name in ("x", "y", "width", "height"))
        for box in found
        if box.get("class") != "paper"
    ]


def test_all_boxes_of_an_svg_lie_on_its_paper_and_apart(tmp_path: Path) -> None:
    presets.get("autobert-zero").draw(tmp_path / "b.svg")
    root = ElementTree.parse(tmp_path / "b.svg").getroot()
    width, height = float(root.get("width", "nan")), float(root.get("height", "nan"))
    found = boxes(tmp_path / "b.svg")
    assert len(found) == 12 + sum(
        len(graph) + len(graph.inputs) + 1 for graph in dict.fromkeys(presets.get("autobert-zero").graphs)
    )
    for number, (x, y, w, h) in enumerate(found):
        assert x > 0
        assert y > 0
        assert x + w < width
        assert y + h < height
        for x2, y2, w2, h2 in found[:number]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_a_drawing_can_stand_in_a_page_many_times_as_it_has_no_ids() -> None:
    drawn = presets.get("autobert-zero").to_svg()
    root = ElementTree.fromstring(drawn)
    assert not [element for element in root.iter() if "id" in element.attrib]
    classes = {element.get("class") for element in root.iter()}
    assert {"drawing", "paper", "conv", "attention", "product", "norm", "input", "output"} <= classes
