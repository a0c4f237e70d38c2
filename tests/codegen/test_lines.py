"""Long lines are broken as ruff breaks them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from codegen.lines import WIDTH, break_lines

ROOT = Path(__file__).parents[2]

MANY = ", ".join(f"value_{n}" for n in range(14))
STATEMENTS = [
    f"{MANY} = output",
    f"return {MANY}",
    f"return function({MANY})",
    f"context.save(*saved, {MANY})",
    f"total = {MANY.replace(', ', ' + ')}",
    f"total = -{MANY.replace(', ', ' - ')}",
    f"total = {MANY.replace(', ', ' * ')}",
    f"total = {'a' * 50} * {'b' * 20} + {'c' * 40}",
    f"total = {'a' * 50} * {'b' * 60}",
    f"total = {'a' * 50} / tl.where({'b' * 20} > 0.0, {'b' * 20}, 1.0)[:, None]",
    f"total = {'a' * 50} + tl.where({'b' * 20} > 0.0, {'b' * 20}, 1.0)",
    f"total = tl.zeros([BLOCK_OWN, BLOCK_D], tl.float32) + ({'b' * 60})",
    f"total = SCALE * {'a' * 30} + 2.0 * SCALE * SCALE * SCALE * ({'b' * 20} + {'c' * 20})",
    f"total = SCALE * {'a' * 40} + 2.0 * SCALE * SCALE * SCALE * SCALE * SCALE * tl.trans({'b' * 20})",
    f"total = {'a' * 60} * tl.trans({'b' * 40})",
    f"total = SCALE * {'a' * 60} * tl.trans({'b' * 40})",
    f"total += tl.sum(tl.where({'m' * 20}, {'a' * 40} * {'b' * 60}, 0.0) * {'c' * 40}, 1)",
    f"total = total + tl.sum(tl.where(real, {'a' * 60}, 0.0) * {'b' * 50}, 1)",
    f"distance = tl.sqrt(squared({'a' * 60}, {'b' * 40}, None, DTYPE))",
    f"distance = tl.sqrt(squared({'a' * 30}, {'b' * 30}, None, DTYPE))",
    f"weights = weigh(SCALE * SCALE * {'a' * 20} + SCALE * {'b' * 20} - SCALE * {'c' * 60}, 1.0, {'d' * 20}[:, None])",
    f"{'a' * 20}, {'b' * 20}, {'c' * 20}, {'d' * 20} = add({'e' * 20}, {'f' * 20}, {'g' * 20})",
    f"{'a' * 27}, {'b' * 27}, {'c' * 27}, {'d' * 10} = add_to_all({'e' * 20}, {'f' * 20}, {'g' * 20})",
    f"product = tl.dot(tl.trans(tl.where({'a' * 20}[:, None], {'b' * 80}, 0.0).to(DTYPE)), {'c' * 40}, precision=P)",
    f"tl.store({'a' * 40} + {'b' * 20}, tl.where({'c' * 20}, {'d' * 30}, 0.0), mask=own < tokens)",
]


def test_what_is_broken_says_the_same_and_ruff_leaves_it_as_it_is():
    for indent in (4, 8):
        source = [f"def function({MANY}, {'x' * 5}):"]
        if indent == 8:
            source.append("    for _ in range(3):")
        source += [" " * indent + statement for statement in STATEMENTS]
        broken = list(break_lines(source))
        assert max(map(len, broken)) <= WIDTH
        text = "\n".join([*broken, ""])
        assert ast.dump(ast.parse(text)) == ast.dump(ast.parse("\n".join(source)))
        ruff = [
            sys.executable,
            "-m",
            "ruff",
            "format",
            "--no-cache",
            "--config",
            str(ROOT / "pyproject.toml"),
            "-",
        ]
        done = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True)
        assert done.stdout == text


def test_comments_and_texts_are_left_as_they_are():
    lines = [f"# {'word ' * 30}", f'    """{"word " * 30}', f'        "{"word " * 30}"', "total = 1.0"]
    assert list(break_lines(lines)) == lines
