"""The plot of token similarities by layer, as an SVG or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphir.drawing import INK, canvas
from runtime.token_similarity import TokenSimilarity

_WIDTH, _HEIGHT = 460.0, 300.0
_COLOURS = ("#f97316", "#6366f1", "#22c55e", "#64748b")
_MARKS = "osD^"


def draw_similarity(measured: Sequence[TokenSimilarity], path: str | Path) -> None:
    """Draw a line a model, over layers; 0 is the embeddings. No setting of the user's matplotlib counts.

    Raises:
        InputError: for a suffix other than ``.svg`` and ``.png``.
        DrawingError: where matplotlib cannot be loaded.
        OSError: where the file cannot be written.
    """
    with canvas(path, _WIDTH, _HEIGHT) as page:
        axes = page.figure.add_axes((0.13, 0.16, 0.84, 0.8))
        for number, one in enumerate(measured):
            axes.plot(
                range(len(one.means)),
                one.means,
                label=one.name,
                color=_COLOURS[number % len(_COLOURS)],
                marker=_MARKS[number % len(_MARKS)],
            )
        deepest = max(len(one.means) for one in measured)
        axes.set_xticks(range(0, deepest, max(1, deepest // 13)))
        axes.set_ylim(min(0.0, *(min(one.means) for one in measured)), 1.0)
        axes.set_xlabel("layer (0: embeddings)", color=INK)
        axes.set_ylabel("mean cosine similarity of tokens", color=INK)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
