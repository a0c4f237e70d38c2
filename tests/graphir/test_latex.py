"""Formulas as LaTeX."""

import pytest

from graphir import EXTENDED_OPERATIONS, OPERATIONS, AttentionGraph
from graphir.latex import FORMS


def test_every_operation_has_a_form_that_shows_each_operand_once() -> None:
    assert FORMS.keys() == OPERATIONS.keys()
    for name, form in FORMS.items():
        shown = [form.template.count(f"<{i}>") for i in range(OPERATIONS[name].arity)]
        assert shown == [1] * OPERATIONS[name].arity, name
        assert len(form.operands) == OPERATIONS[name].arity, name


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("-(Q + K)", r"-\left(Q + K\right)"),
        ("Q.T.T", r"\left(Q^{\top}\right)^{\top}"),
        ("Q @ (K.T @ V)", r"Q \, \left(K^{\top} \, V\right)"),
        ("Q @ -K.T @ V", r"Q \, \left(-K^{\top}\right) \, V"),
        ("scale(Q).T.T", r"\left(\left(\frac{Q}{\sqrt{D}}\right)^{\top}\right)^{\top}"),
        ("x = -Q; x + x", r"t_{1} = -Q;\quad t_{1} + t_{1}"),
        ("sub(Q, K + V)", r"Q - \left(K + V\right)"),
        ("cosine_similarity(Q, K) @ V", r"\operatorname{cos}\left(Q, K\right) \, V"),
    ],
)
def test_formulas_are_written_as_in_a_paper(text: str, latex: str) -> None:
    assert AttentionGraph.from_expression(text).equation("latex") == latex


@pytest.mark.parametrize("seed", range(40))
def test_brackets_are_balanced_and_nothing_is_left_open(random_graph, seed: int) -> None:
    text = random_graph(seed, 25, EXTENDED_OPERATIONS).equation("latex")
    assert "<" not in text, f"seed {seed}"
    assert text.count(r"\left") == text.count(r"\right"), f"seed {seed}"
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        assert depth >= 0, f"seed {seed}: {text}"
    assert depth == 0, f"seed {seed}: {text}"
    assert r"}^{\top}^{" not in text, f"seed {seed}: TeX refuses a double superscript"
