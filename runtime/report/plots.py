"""The plots of a report, by plotly. Colours of text and grid are left to the page, which knows light from dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from evolution import Candidate
from runtime.report.data import RunData
from runtime.report.objectives import Objective, pareto_front
from runtime.report.priorities import PriorityMap

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_DOTS = 2_000
"""Most candidates that a plot shows beside those that matter: more are slow on a phone, and cover each other."""
RANDOM, MUTATED, LINE, FRONT = "#2f9bd6", "#a067e8", "#f97316", "#10b981"
"""Colours that can be told from white and from black paper."""
HEIGHT = 380
ROW_HEIGHT = 24


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        name: unique in the page; letters and hyphens.
        title: for people.
        note: what it shows, and what it leaves out.
        figure: JSON of plotly.
    """

    name: str
    title: str
    note: str
    figure: str


def score_plot(run: RunData) -> Plot:
    """The score of each candidate, and the best so far."""
    import plotly.graph_objects as go

    figure = _figure("evaluation", "score", height=HEIGHT)
    better = improvements(run.candidates)
    dots, left_out = _thinned([c for c in run.candidates if c.ok])
    for title, colour, shown in (
        ("random", RANDOM, [c for c in dots if c.parent is None]),
        ("mutated", MUTATED, [c for c in dots if c.parent is not None]),
    ):
        if shown:
            figure.add_trace(_dots(title, colour, shown, [c.index for c in shown]))
    if better:
        ends = [*((c.index, c.score) for c in better), (len(run.candidates) - 1, better[-1].score)]
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in ends],
                y=[y for _, y in ends],
                mode="lines",
                line={"shape": "hv", "color": LINE, "width": 2.5},
                name="best so far",
                hovertemplate="best so far %{y:.4f}<extra></extra>",
            )
        )
    return _plot("scores", "Score over evaluations", _left_out(left_out), figure)


def pareto_plot(run: RunData, objective: Objective) -> Plot:
    """Score against one objective, with the candidates that no other beats in both."""
    front = pareto_front(run.ranked, objective)
    figure = _figure(objective.name, "score", height=HEIGHT)
    figure.update_xaxes(exponentformat="SI", ticksuffix=objective.unit)
    dots, left_out = _thinned(run.ranked, keep={c.index for c in front})
    x = [objective.values[c.index] for c in dots]
    figure.add_trace(_dots("candidates", MUTATED, dots, x))
    line = _dots("Pareto front", FRONT, front, [objective.values[c.index] for c in front])
    line.update(mode="lines+markers", line={"shape": "hv", "color": FRONT, "width": 2}, marker={"size": 9})
    figure.add_trace(line)
    note = f"{objective.title}. {len(front)} of {len(run.ranked):,} are on the front. {_left_out(left_out)}"
    return _plot(f"pareto-{objective.name}", f"Score against {objective.name}", note.strip(), figure)


_FAMILIES = {"operation": "operation", "kind": "kind of layer", "kernel_size": "kernel size"}
_PLACES = {
    "position": ("layer", "each layer has priorities of its own"),
    "neighbour": (
        "neighbour",
        "for an operation the one that uses its result, for a layer the kind of the one before it",
    ),
}
"""What a context is, on the axis and in words."""


def priority_plot(found: PriorityMap) -> Plot:
    """The chance of each choice of a family to be drawn, over time or from context to context."""
    import plotly.graph_objects as go

    names = found.names[::-1]  # plotly's first row is the lowest
    over_time = found.across == "candidates"
    axis, place = ("candidates", "") if over_time else _PLACES[found.across]
    figure = _figure(axis, "", height=120 + ROW_HEIGHT * len(names))
    where = "after %{x} candidates" if over_time else f"{axis} %{{x}}"
    figure.add_trace(
        go.Heatmap(
            x=[column if over_time else _words(column) for column in found.columns],
            y=[_words(name) for name in names],
            z=[list(row) for row in found.chances[::-1]],
            customdata=[list(row) for row in found.priorities[::-1]],
            colorscale="Viridis",
            zmin=0.0,
            colorbar={"title": {"text": "chance"}, "tickformat": ".0%", "thickness": 12},
            hovertemplate=f"%{{y}} {where}<br>chance %{{z:.1%}}, priority %{{customdata:.3f}}<extra></extra>",
        )
    )
    figure.update_xaxes(type="category", nticks=8 if over_time else len(found.columns))
    # A kernel size is a name, not a number on an axis.
    figure.update_yaxes(type="category", automargin=True, showgrid=False)
    family = _FAMILIES.get(found.family, found.family)
    if over_time:
        note = (
            f"The chance of each {family} to be drawn by a mutation where all fit, after so many candidates."
        )
        name = "priorities" if found.family == "operation" else f"priorities-{found.family.replace('_', '-')}"
        return _plot(name, f"{family[0].upper()}{family[1:]} priority over time", note, figure)
    note = f"The same after the last candidate, by {found.across}: {place}. A place where nothing was seen is missing."
    name = f"priorities-{found.family.replace('_', '-')}-by-{found.across}"
    return _plot(name, f"{family[0].upper()}{family[1:]} priority by {found.across}", note, figure)


def improvements(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that were better than all before them."""
    found: list[Candidate] = []
    for candidate in candidates:
        if candidate.score is None:
            continue
        if not found or found[-1].score is None or candidate.score > found[-1].score:
            found.append(candidate)
    return found


def _dots(title: str, colour: str, shown: Sequence[Candidate], x: Sequence[float]) -> Any:
    import plotly.graph_objects as go

    return go.Scatter(
        x=list(x),
        y=[c.score for c in shown],
        mode="markers",
        marker={"color": colour, "size": 6, "opacity": 0.75},
        name=title,
        text=[_hover(c) for c in shown],
        hovertemplate="%{text}<br>score %{y:.4f}, %{x:.4~s}<extra></extra>",
    )


def _hover(candidate: Candidate) -> str:
    """Plotly reads some HTML in texts, and a study may be a stranger's."""
    made = "random" if candidate.parent is None else f"{candidate.parent}: {candidate.mutation}"
    return f"candidate {candidate.index}<br>{escape(made[:120])}"


def _thinned(
    candidates: Sequence[Candidate], keep: set[int] | frozenset[int] = frozenset()
) -> tuple[list[Candidate], int]:
    """At most `MOST_DOTS` of the candidates, evenly spread, and those to keep; with how many are left out."""
    if len(candidates) <= MOST_DOTS:
        return list(candidates), 0
    step = len(candidates) / MOST_DOTS
    chosen = {int(number * step) for number in range(MOST_DOTS)}
    shown = [c for place, c in enumerate(candidates) if place in chosen or c.index in keep]
    return shown, len(candidates) - len(shown)


def _left_out(count: int) -> str:
    return f"Evenly thinned: {count:,} candidates are not drawn." if count else ""


def _words(name: str) -> str:
    return escape(name.replace("_", " "))


def _figure(x: str, y: str, height: int) -> Figure:
    import plotly.graph_objects as go

    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "margin": {"l": 56, "r": 12, "t": 44, "b": 48},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": {"title": {"text": x}, "zeroline": False, "automargin": True},
            "yaxis": {"title": {"text": y}, "zeroline": False, "automargin": True},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
            "hovermode": "closest",
        }
    )


def _plot(name: str, title: str, note: str, figure: Figure) -> Plot:
    return Plot(name, title, note, figure.to_json())
