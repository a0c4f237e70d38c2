"""A report as one HTML page. Whatever stands in a study appears as text: the template escapes all that it is given."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from evolution import Candidate
from graphir.svg import to_svg
from runtime.machine import describe_machine, installed_versions
from runtime.report.data import RunData
from runtime.report.lineage import lineage
from runtime.report.objectives import Objective, objectives_of
from runtime.report.plots import Plot, pareto_plot, priority_plot, score_plot
from runtime.report.priorities import priority_maps
from runtime.report.ranking import made_by, metric_names, objective_cell, rank
from runtime.report.tables import Table, show, tables_of

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
"""Found by path: whoever uses opnas may have a package called ``templates``."""
DRAWN = 20
"""How many of the best candidates are drawn."""
MOST_STEPS = 40
"""How many steps of the winner's lineage are shown."""


@dataclass(frozen=True)
class Shown:
    """A candidate with its drawing.

    Attributes:
        candidate: who.
        rank: its place, from 1; None where it has no score.
        made_by: how.
        facts: name and value of all that is known of it.
        equation: a line a layer.
        drawing: an ``svg`` element.
    """

    candidate: Candidate
    rank: int | None
    made_by: str
    facts: tuple[tuple[str, str], ...]
    equation: str
    drawing: Markup


def render(run: RunData, version: str | None = None) -> str:
    """The page.

    Args:
        run: what it is about.
        version: where it is shown by `runtime.report.server`, what that calls it; the page then asks for newer ones.
    """
    served = version is not None
    objectives = objectives_of(run.ranked, run.config)
    steps, older = lineage(run, MOST_STEPS)
    drawn = {
        c.index: c
        for c in (*run.ranked[:DRAWN], *(c for step in steps for c in (step.candidate, step.mate) if c))
    }
    places = {c.index: place for place, c in enumerate(run.ranked, 1)}
    plots = _plots(run, objectives)
    script, plotly = _script(served), _plotly() if any(plots.values()) else ""
    return (
        _environment()
        .get_template("report/page.html.jinja")
        .render(
            run=run,
            overview=_overview(run),
            ranking=rank(run, objectives),
            plots=plots,
            priorities_missing=_why_no_priorities(run),
            steps=steps,
            older=older,
            shown=[_shown(c, places.get(c.index), objectives) for c in drawn.values()],
            drawn=drawn,
            drawing=lambda difference: Markup(to_svg(difference.scene())),
            settings=tables_of(run.config.to_dict()),
            sessions=_sessions(run),
            style=Markup(_read("report/style.css.jinja")),
            script=Markup(script),
            plotly=Markup(plotly),
            policy=_policy([text for text in (plotly, script) if text], served),
            version=version,
            embedded=_embedded,
            moment=_moment,
            reasons=run.reasons,
        )
    )


def _plots(run: RunData, objectives: tuple[Objective, ...]) -> dict[str, list[Plot]]:
    """By section. Where nothing has a score there is nothing to plot."""
    if not run.ranked:
        return {"scores": [], "pareto": [], "priorities": []}
    found = {"scores": [score_plot(run)], "pareto": [pareto_plot(run, o) for o in objectives]}
    found["priorities"] = [priority_plot(one) for one in priority_maps(run)]
    return found


def _why_no_priorities(run: RunData) -> str:
    if not run.ranked:
        return "No candidate has a score yet."
    return f"Operations are drawn uniformly by the strategy {run.config.strategy!r}: it has no priorities."


def _overview(run: RunData) -> list[tuple[str, str]]:
    """The facts at the head of the page."""
    best = run.ranked[0] if run.ranked else None
    machine = run.sessions[-1]["machine"] if run.sessions else {}
    versions = run.sessions[-1]["versions"] if run.sessions else {}
    duplicates = run.duplicates
    return [
        ("candidates", f"{len(run.candidates):,} of {run.config.candidates:,}"),
        ("state", _state(run)),
        ("best score", "-" if best is None else f"{best.score:.4f} (candidate {best.index})"),
        *((f"winner's {name}", f"{value:.4f}") for name, value in sorted(run.winner_metrics.items())),
        ("failed", f"{len(run.failures):,}"),
        ("duplicates avoided", "not counted" if duplicates is None else f"{duplicates:,}"),
        ("strategy", f"{run.config.strategy}, seed {run.config.seed}"),
        ("begun", _moment(run.first)),
        ("last candidate", _moment(run.last)),
        ("time of evaluations", str(timedelta(seconds=round(run.evaluation_seconds)))),
        (
            "machine",
            ", ".join(show(machine[k]) for k in ("processor", "device") if k in machine) or "not recorded",
        ),
        (
            "versions",
            ", ".join(f"{k} {show(versions[k])}" for k in ("opnas", "torch") if k in versions) or "-",
        ),
    ]


def _state(run: RunData) -> str:
    if run.complete:
        return "complete"
    if not run.candidates:
        return "no candidate yet"
    if len(run.candidates) >= run.config.candidates:
        return "all candidates evaluated, the winner is not trained yet"
    return "not complete: running, or stopped"


def _shown(candidate: Candidate, place: int | None, objectives: tuple[Objective, ...]) -> Shown:
    facts = [("score", "-" if candidate.score is None else f"{candidate.score:.5f}")]
    facts += [(name, show(candidate.metrics[name])) for name in metric_names([candidate], objectives)]
    facts += [(o.name, objective_cell(o, candidate).text) for o in objectives if candidate.index in o.values]
    facts += [("evaluated in", f"{candidate.seconds:.1f} s"), ("seed", str(candidate.seed))]
    backbone = candidate.backbone
    return Shown(
        candidate,
        place,
        made_by(candidate),
        tuple(facts),
        backbone.equation(),
        Markup(backbone.to_svg()),
    )


def _sessions(run: RunData) -> tuple[Table, ...]:
    """Where the search ran, and where this report was written."""
    found = [
        Table(f"session of {entry['begun']}", (), _rows({**entry["machine"], **entry["versions"]}))
        for entry in run.sessions
    ]
    here = Table("this report was written by", (), _rows({**describe_machine(), **installed_versions()}))
    return (*found, here)


def _rows(values: dict[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), show(value)) for name, value in values.items())


def _moment(moment: datetime | None) -> str:
    return "not recorded" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S %Z").strip()


def _embedded(figure: str) -> Markup:
    """JSON for a script element: no text in it can end the element or begin another."""
    for sign, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        figure = figure.replace(sign, code)
    return Markup(figure)


def _policy(scripts: list[str], served: bool) -> str:
    """What the page may do: run these scripts, and nothing that needs a network."""
    hashes = " ".join(f"'sha256-{_digest(text)}'" for text in scripts)
    parts = [
        "default-src 'none'",
        f"script-src {hashes}",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        "font-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    if served:
        parts.append("connect-src 'self'")
    return "; ".join(parts)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _script(served: bool) -> str:
    text = _read("report/page.js.jinja")
    return text + _read("report/follow.js.jinja") if served else text


@cache
def _plotly() -> str:
    """All of plotly.js. A page's digest of a script is that of its text with plain line ends."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n")


def _read(template: str) -> str:
    return _environment().get_template(template).render()


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
