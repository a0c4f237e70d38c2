"""The report of a search: all that was asked for is in it, it asks for nothing, and whatever is in a study is text."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest

import opnas
from evolution import Mutation, Study
from graphir import OpnasError
from graphir.cost import backbone_cost
from runtime.proxy_config import PROXY_SPACE
from runtime.report import render_run, report
from runtime.run import Run
from runtime.run_config import RunConfig
from tests.runtime.html_page import Page
from tests.runtime.synthetic_run import (
    SPACE,
    hostile_candidates,
    synthetic_candidates,
    synthetic_run,
    write_winner,
)

SECTIONS = [
    "ranking", "scores", "pareto", "priorities", "lineage", "candidates", "failures", "calibration", "settings",
]  # fmt: skip
LOADING = {
    "src",
    "srcset",
    "href",
    "xlink:href",
    "action",
    "formaction",
    "data",
    "poster",
    "ping",
    "background",
}


@pytest.fixture(scope="module")
def candidates():
    return synthetic_candidates(60)


@pytest.fixture(scope="module")
def run(tmp_path_factory, candidates):
    return synthetic_run(tmp_path_factory.mktemp("report") / "run", candidates)


@pytest.fixture(scope="module")
def page(run):
    return Page(report(run.folder).read_text(encoding="utf-8"))


def scored(candidates):
    return sorted((c for c in candidates if c.ok), key=lambda c: -c.score)


def figure(page, name):
    (script,) = [e for e in page.all("script") if e.attributes.get("id") == f"figure-{name}"]
    assert script.attributes["type"] == "application/json"
    return json.loads(script.text)


# -- what is in it


def test_it_has_every_section_once_and_a_link_to_each(page):
    assert [e.attributes["id"] for e in page.all("section")] == SECTIONS
    assert [e.attributes["href"] for e in page.all("a") if "nav" in e.within] == [
        f"#{name}" for name in SECTIONS
    ]


def test_the_ranking_has_a_row_for_every_scored_candidate_best_first(page, candidates):
    rows = page.rows("ranking")
    best = scored(candidates)
    assert [int(row[1]) for row in rows] == [c.index for c in best]
    assert [row[2] for row in rows] == [f"{c.score:.4f}" for c in best]
    heads = [e.text.strip() for e in page.all("th", "ranking")]
    assert heads == [
        "rank", "candidate", "score", "accuracy", "parameters", "operations", "latency", "seconds", "made by",
    ]  # fmt: skip
    parent = best[0].parent
    assert rows[0][-1] == ("random" if parent is None else f"{parent}: {best[0].mutation}")


def test_cells_are_sorted_by_full_numbers_and_not_by_what_is_shown(page, candidates):
    cells = [e for e in page.all("td", "ranking") if "data-value" in e.attributes]
    best = scored(candidates)
    per_row = len(cells) // len(best)
    assert [float(cells[n * per_row + 2].attributes["data-value"]) for n in range(len(best))] == [
        c.score for c in best
    ]


def test_scores_are_plotted_with_the_best_so_far(page, candidates):
    *dots, line = figure(page, "scores")["data"]
    drawn = dict(pair for trace in dots for pair in zip(trace["x"], trace["y"], strict=True))
    assert drawn == {c.index: c.score for c in candidates if c.ok}
    best, wanted = -float("inf"), []
    for c in candidates:
        if c.ok and c.score > best:
            best = c.score
            wanted.append((c.index, best))
    assert list(zip(line["x"], line["y"], strict=True)) == [*wanted, (len(candidates) - 1, best)]


@pytest.mark.parametrize("name", ["parameters", "operations", "latency"])
def test_a_pareto_front_holds_exactly_the_candidates_that_no_other_beats(page, candidates, name):
    dots, front = figure(page, f"pareto-{name}")["data"]
    points = list(zip(dots["x"], dots["y"], strict=True))
    assert len(points) == len(scored(candidates))
    beaten = {
        p for p in points for q in points if q[0] <= p[0] and q[1] >= p[1] and q != p
    }  # by definition, against every other one
    assert sorted(zip(front["x"], front["y"], strict=True)) == sorted(set(points) - beaten)


def test_parameters_and_operations_are_those_of_the_graphs(page, candidates):
    dots, _ = figure(page, "pareto-operations")["data"]
    best = scored(candidates)
    costs = [backbone_cost(c.backbone, seq_len=32, batch=8) for c in best]
    assert dots["x"] == [cost.flops for cost in costs]
    assert figure(page, "pareto-parameters")["data"][0]["x"] == [cost.parameters for cost in costs]


def test_what_an_evaluation_recorded_is_shown_rather_than_worked_out(tmp_path, candidates):
    for c in candidates:
        c.metrics["parameters"] = 1000.0 + c.index
    try:
        run = synthetic_run(tmp_path / "run", candidates)
    finally:
        for c in candidates:
            del c.metrics["parameters"]
    dots, _ = figure(Page(render_run(run.folder)), "pareto-parameters")["data"]
    assert dots["x"] == [1000.0 + c.index for c in scored(candidates)]


def test_priorities_are_those_of_the_strategy_after_so_many_candidates(page, run, candidates):
    (heat,) = figure(page, "priorities")["data"]
    strategy = run.config.make_strategy()
    assert {name.replace(" ", "_") for name in heat["y"]} == set(SPACE.operations)
    assert heat["x"][-1] == str(len(candidates))
    for place in (0, len(heat["x"]) // 2, -1):
        priority = strategy.priority(candidates[: int(heat["x"][place])], SPACE)
        wanted = priority.probabilities()
        found = {name.replace(" ", "_"): row[place] for name, row in zip(heat["y"], heat["z"], strict=True)}
        assert found == pytest.approx(wanted, abs=1e-12)  # the same sums, through JSON


def test_kinds_and_kernel_sizes_have_priorities_as_operations_do(page, run, candidates):
    now = run.config.make_strategy().priorities(candidates, SPACE)
    for family in ("kind", "kernel_size"):
        (heat,) = figure(page, f"priorities-{family.replace('_', '-')}")["data"]
        found = {name: row[-1] for name, row in zip(heat["y"], heat["z"], strict=True)}
        assert found == pytest.approx(now.plain[family].probabilities(), abs=1e-12)


@pytest.mark.parametrize("context", ["position", "neighbour"])
def test_priorities_apart_by_context_have_a_column_for_each(tmp_path, candidates, context):
    run = synthetic_run(tmp_path / "run", candidates, strategy_settings={"context": context})
    page, now = Page(render_run(run.folder)), run.config.make_strategy().priorities(candidates, SPACE)
    for family, stem in (("operation", "priorities-operation"), ("kernel_size", "priorities-kernel-size")):
        (heat,) = figure(page, f"{stem}-by-{context}")["data"]
        columns = {
            context: priority.probabilities()
            for (of, context), priority in now.placed.items()
            if of == family
        }
        assert len(heat["x"]) == len(columns) > 1
        for place, label in enumerate(heat["x"]):
            key = int(label) - 1 if context == "position" else label.replace(" ", "_")
            wanted = columns[key if key != "output" or key in columns else ""]
            found = {n.replace(" ", "_"): row[place] for n, row in zip(heat["y"], heat["z"], strict=True)}
            assert found == pytest.approx(wanted, abs=1e-12)


def test_a_crossover_shows_its_second_parent_with_what_is_not_as_in_either(tmp_path, candidates, monkeypatch):
    monkeypatch.setattr("runtime.report.page.DRAWN", 1)  # who is no ancestor of the best is not drawn
    first, second, child = candidates[0], candidates[1], candidates[2]
    mutation = Mutation("crossover", "layers taken from the second parent: 1", mate=1)
    backbone = replace(first.backbone, layers=(second.backbone.layers[0], first.backbone.layers[1]))
    child = replace(child, backbone=backbone, parent=0, mutation=mutation, score=9.0)
    page = Page(render_run(synthetic_run(tmp_path / "run", [first, second, child]).folder))
    (said,) = [e.text for e in page.all("p", "lineage") if e.attributes["class"] == "mate"]
    assert said.startswith("second parent: candidate 1, score")
    titles = [e.text for e in page.all("summary", "lineage")]
    assert titles == ["what is not as in the first parent", "what is not as in the second parent"]
    texts = [e.text.strip() for e in page.all("pre", "lineage")]
    assert texts == [str(parent.backbone.diff(backbone)) for parent in (first, second)]
    assert len(page.all("svg", "candidate-1")) == 1


@pytest.mark.parametrize("mate", [2, 99, -1])
def test_a_second_parent_that_cannot_be_one_is_left_out(tmp_path, candidates, mate):
    mutation = Mutation("crossover", "of a stranger's study", mate=mate)
    child = replace(candidates[2], parent=0, mutation=mutation, score=9.0)
    page = Page(render_run(synthetic_run(tmp_path / "run", [*candidates[:2], child]).folder))
    assert not [e for e in page.all("p", "lineage") if e.attributes["class"] == "mate"]


def test_a_strategy_without_priorities_says_so(tmp_path, candidates):
    run = synthetic_run(tmp_path / "run", candidates[:9], strategy="random")
    page = Page(render_run(run.folder))
    (said,) = [e.text for e in page.all("p", "priorities")]
    assert "drawn uniformly by the strategy 'random'" in said


def test_the_lineage_leads_from_a_random_backbone_to_the_winner_with_the_mutation_on_each_edge(
    page, candidates
):
    chain = [scored(candidates)[0]]
    while chain[-1].parent is not None:
        chain.append(candidates[chain[-1].parent])
    chain.reverse()
    assert len(chain) > 2, "the synthetic study has no lineage to speak of: choose another seed"
    nodes = [e.text for e in page.all("p", "lineage") if e.attributes.get("class") == "node"]
    edges = [e.text for e in page.all("p", "lineage") if e.attributes.get("class") == "mutation"]
    assert [int(text.split()[1].rstrip(",")) for text in nodes] == [c.index for c in chain]
    assert edges == [str(c.mutation) for c in chain[1:]]
    assert nodes[0].endswith("random")


def test_every_shown_candidate_has_its_drawing_and_its_equation(page, candidates):
    shown = {int(e.attributes["id"].removeprefix("candidate-")): e for e in page.all("details", "candidates")}
    assert {c.index for c in scored(candidates)[:20]} <= shown.keys()
    lineage = [
        int(e.text.split()[1].rstrip(","))
        for e in page.all("p", "lineage")
        if "node" in e.attributes["class"]
    ]
    assert set(lineage) <= shown.keys()
    for index in shown:
        inside = f"candidate-{index}"
        assert len(page.all("svg", inside)) == 1
        (equation,) = page.all("pre", inside)
        assert equation.text.strip() == candidates[index].backbone.equation()
        assert page.all("title", inside)[0].text == candidates[index].backbone.name


def test_every_link_has_its_place(page):
    places = {e.attributes["id"] for e in page.elements if "id" in e.attributes}
    links = [e.attributes["href"].removeprefix("#") for e in page.all("a")]
    assert set(links) <= places
    assert len(places) == len([e for e in page.elements if "id" in e.attributes]), "an id stands twice"


def test_failures_are_grouped_by_reason_and_duplicates_counted(page, candidates):
    failed = [c for c in candidates if not c.ok]
    rows = page.rows("failures")
    assert {row[1]: int(row[0]) for row in rows} == {
        reason: sum(c.reason == reason for c in failed) for reason in {c.reason for c in failed}
    }
    facts = page.facts()
    assert facts["failed"] == str(len(failed))
    assert facts["duplicates avoided"] == str(len(candidates))  # one each in the synthetic study


def test_settings_are_all_those_of_the_run(page, run):
    rows = {row[0]: row[1] for row in page.rows("settings") if len(row) == 2}
    assert rows["hidden_size"] == str(SPACE.hidden_size)
    assert rows["candidates"] == str(run.config.candidates)
    assert rows["seq_len"] == "32"
    assert rows["temperature"] == str(run.config.make_strategy().temperature)
    assert rows["python"] == sys.version.split()[0]


def test_a_calibration_is_shown_where_there_is_one(tmp_path, candidates):
    run = synthetic_run(tmp_path / "run", candidates[:9])
    assert "has not been calibrated" in render_run(run.folder)
    data = {
        "backbones": 24,
        "proxies": [{"proxy": "mix", "tau": 0.7, "low": 0.6}, {"proxy": "mlm", "tau": 0.4}],
    }
    (run.folder / "calibration.json").write_text(json.dumps(data))
    rows = Page(render_run(run.folder)).rows("calibration")
    assert rows == [["backbones", "24"], ["mix", "0.7", "0.6"], ["mlm", "0.4", ""]]
    (run.folder / "calibration.json").write_text("{")
    assert "cannot be read" in Page(render_run(run.folder)).rows("calibration")[0][0]


# -- what it asks for


def test_it_asks_for_nothing_and_may_not(page):
    for element in page.elements:
        for name, value in element.attributes.items():
            if name in LOADING:
                assert value.startswith(("#", "data:")), f"{element.tag} {name}={value[:80]}"
    styles = "".join(e.text for e in page.all("style"))
    assert "url(" not in styles
    assert "@import" not in styles
    (policy,) = [e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"]
    parts = dict(part.split(" ", 1) for part in policy.attributes["content"].split("; "))
    assert parts["default-src"] == "'none'"
    assert "connect-src" not in parts
    assert all(source.startswith("'sha256-") for source in parts["script-src"].split())
    assert not [e for e in page.elements if any(name.startswith("on") for name in e.attributes)]


def test_plotly_stands_in_it_once_and_only_where_something_is_plotted(page, tmp_path):
    assert sum("plotly.js v" in e.text[:300] for e in page.all("script")) == 1
    empty = Run.create(tmp_path / "run", RunConfig())
    assert "plotly.js v" not in render_run(empty.folder)


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</script>{{ 7*7 }}"]
)
def test_names_that_hold_html_appear_as_text(tmp_path, text):
    run = synthetic_run(tmp_path / "<b>run", hostile_candidates(text))
    (run.folder / "calibration.json").write_text(json.dumps({text: [{text: text}]}))
    session = {
        "begun": text,
        "machine": {text: text, "device": text},
        "versions": {text: text, "torch": text},
    }
    (run.folder / "sessions.json").write_text(json.dumps([session]))
    page = Page(render_run(run.folder))
    scripts = page.all("script")
    assert not page.all("img")
    assert not page.all("b")
    plots = len([e for e in page.all("div") if e.attributes.get("class") == "plot"])
    assert len(scripts) == plots + 2
    assert page.all("h1")[0].text == "<b>run"
    assert page.rows("failures")[0][1] == text
    assert page.rows("calibration") == [[text]]
    assert text in [e.text for e in page.all("th", "ranking")]
    assert page.rows("ranking")[0][-1] == f"0: layer 1: {text}"
    assert [e.text for e in page.all("p", "lineage") if e.attributes["class"] == "mutation"] == [
        f"layer 1: {text}"
    ]
    hover = " ".join(t for trace in figure(page, "scores")["data"] for t in trace.get("text", ()))
    assert "<" not in hover.replace("<br>", "")


# -- whatever state the run is in


def test_a_search_that_has_not_begun_has_a_report(tmp_path):
    run = Run.create(tmp_path / "run", RunConfig())
    for made in (False, True):
        if made:
            run.open_study().close()
        page = Page(report(run.folder).read_text(encoding="utf-8"))
        assert [e.attributes["id"] for e in page.all("section")] == SECTIONS
        assert page.facts()["state"] == "no candidate yet"
        assert not page.rows("ranking")


def test_a_search_without_any_success_has_a_report(tmp_path, candidates):
    failed = [c for c in candidates if not c.ok][:1]
    from dataclasses import replace

    run = synthetic_run(tmp_path / "run", [replace(failed[0], index=0, parent=None, mutation=None)])
    page = Page(render_run(run.folder))
    assert page.facts()["best score"] == "-"
    assert page.rows("failures") == [["1", failed[0].reason, "0"]]


def test_a_running_search_has_a_report_and_is_not_disturbed(tmp_path, candidates):
    run = Run.create(tmp_path / "run", RunConfig(space=SPACE))
    with run.open_study() as study:
        for number, candidate in enumerate(candidates[:5], 1):
            study.add(candidate)
            page = Page(render_run(run.folder))
            assert page.facts()["candidates"] == f"{number} of 40"
            assert page.facts()["state"].startswith("not complete")
            assert len(page.rows("ranking")) == number


def test_more_candidates_than_a_page_can_show_are_cut_off_and_counted(tmp_path, candidates, monkeypatch):
    monkeypatch.setattr("runtime.report.ranking.MOST_ROWS", 10)
    monkeypatch.setattr("runtime.report.plots.MOST_DOTS", 12)
    monkeypatch.setattr("runtime.report.page.MOST_STEPS", 2)
    run = synthetic_run(tmp_path / "run", candidates)
    page = Page(render_run(run.folder))
    best = scored(candidates)
    assert len(page.rows("ranking")) == 10
    (note,) = [e.text for e in page.all("p", "ranking")]
    assert f"The best 10 are shown, {len(best) - 10} more have a score" in note
    *dots, line = figure(page, "scores")["data"]
    assert sum(len(trace["x"]) for trace in dots) == 12
    assert line["y"][-1] == best[0].score
    all_dots, front = figure(page, "pareto-parameters")["data"]
    assert set(front["x"]) <= set(all_dots["x"])
    assert len([e for e in page.all("p", "lineage") if e.attributes["class"] == "node"]) == 2
    assert "older ancestors are left out" in page.all("section")[4].text


def test_a_complete_search_says_so_with_the_winner_s_metrics(tmp_path, candidates):
    run = synthetic_run(tmp_path / "run", candidates)
    write_winner(run, scored(candidates)[0].index, {"loss": 2.5, "accuracy": 0.125})
    facts = Page(render_run(run.folder)).facts()
    assert facts["state"] == "complete"
    assert facts["winner's loss"] == "2.5000"
    (run.best_path / "candidate.json").write_text('{"index": 1e9}')
    assert Page(render_run(run.folder)).facts()["state"].startswith("all candidates evaluated")


@pytest.mark.long
def test_ten_thousand_candidates_make_a_page_of_bounded_size_in_bounded_time(tmp_path):
    many = synthetic_candidates(10_000, space=PROXY_SPACE)
    run = synthetic_run(tmp_path / "run", many, space=PROXY_SPACE, candidates=10_000)
    begun = time.process_time()
    path = report(run.folder)
    # Processor time: a busy machine says nothing of the report. It takes about 6 s here.
    assert time.process_time() - begun < 10
    assert path.stat().st_size < 20_000_000
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.rows("ranking")) == 1_000
    best = max(c.score for c in many if c.ok)
    *dots, line = figure(page, "scores")["data"]
    assert line["y"][-1] == best
    assert sum(len(trace["x"]) for trace in dots) <= 2_000


# -- writing it


def test_it_is_written_whole_or_not_at_all(tmp_path, candidates, monkeypatch):
    run = synthetic_run(tmp_path / "run", candidates[:3])
    assert report(run.folder) == run.folder / "report.html"
    before = (run.folder / "report.html").read_bytes()
    assert opnas.report(run.folder, tmp_path / "other.html").read_bytes()[:15] == b"<!DOCTYPE html>"

    def full(*arguments):
        raise OSError(28, "No space left on device")

    names = sorted(path.name for path in run.folder.iterdir())
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        report(run.folder)
    assert (run.folder / "report.html").read_bytes() == before
    assert sorted(path.name for path in run.folder.iterdir()) == names


def test_a_folder_that_is_no_run_and_a_study_that_is_none_are_errors_for_people(tmp_path, opnas):
    code, _, err = opnas("report", tmp_path)
    assert code == 2
    assert "holds no config.json" in err
    run = Run.create(tmp_path / "run", RunConfig())
    run.study_path.write_bytes(b"no study")
    with pytest.raises(OpnasError, match=r"study\.db"):
        report(run.folder)
    assert not (run.folder / "report.html").exists()


def test_the_command_writes_to_the_run_or_where_it_is_told(tmp_path, candidates, opnas):
    run = synthetic_run(tmp_path / "run", candidates[:3])
    code, out, _ = opnas("report", run.folder)
    assert code == 0
    assert str(run.folder / "report.html") in out
    assert opnas("report", run.folder, "--out", tmp_path / "there.html")[0] == 0
    assert (tmp_path / "there.html").is_file()
    code, _, err = opnas("report", run.folder, "--out", tmp_path / "none" / "there.html")
    assert code == 2
    assert "does not exist" in err
    assert opnas("report", run.folder, "--serve", "--out", tmp_path / "x.html")[0] == 2


def test_a_report_is_written_without_torch_and_without_matplotlib(tmp_path, candidates):
    run = synthetic_run(tmp_path / "run", candidates[:9])
    code = (
        "import sys, opnas; opnas.report(sys.argv[1]); "
        "print([name for name in ('torch', 'matplotlib', 'triton') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, run.folder], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_search_leaves_its_report_and_says_where_it_ran(finished_run):
    page = Page((finished_run / "report.html").read_text(encoding="utf-8"))
    facts = page.facts()
    assert facts["candidates"] == "7 of 7"
    assert facts["state"] == "complete"
    assert facts["duplicates avoided"].isdigit()
    assert facts["machine"].endswith(", cpu")
    assert "torch 2" in facts["versions"]
    with Study.open(finished_run / "study.db", readonly=True) as study:
        assert len(page.rows("ranking")) == len(study.ranked())
