"""Ahead-of-time builds, which need no GPU: in processes of their own, since the tests run Triton as an interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from random import Random

import pytest

from codegen import TARGETS, BackendError, build_ahead, kernel_program
from codegen.tile_sizes import HEAD_BLOCKS, MACHINES, candidates
from evolution import SearchSpace, random_graph
from graphir import presets

PRESETS = [
    "bert/1",
    "autobert-zero/2",
    "autobert-zero/6",
    "autobert-zero/10",
    "cosine-attention",
    "shared-qk",
]

CODE = """
import dataclasses, json, sys
from codegen import build_ahead
from graphir import presets

name, target, head_dim, variant = sys.argv[1:]
builds = build_ahead(presets.get(name), target, int(head_dim), masked=variant == "masked", dropout=variant == "dropout")
print(json.dumps([dataclasses.asdict(build) | {"fits": build.fits} for build in builds]))
"""


def built(name, target, head_dim, variant="plain"):
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, name, target, str(head_dim), variant],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "target", [pytest.param(name, marks=() if name == "sm_90" else pytest.mark.long) for name in TARGETS]
)
def test_kernels_of_a_preset_fit_and_do_not_spill(target, fresh_seed):
    # A fresh preset and head dimension each run; docs/compiler.md has the table of all.
    rng = Random(f"{fresh_seed}/{target}")
    name, head_dim = rng.choice(PRESETS), rng.choice([64, 128])
    builds = built(name, target, head_dim)
    assert len(builds) == len(kernel_program(presets.get(name)).kernels)
    for build in builds:
        assert build["fits"], (name, head_dim, build)
        assert build["spilled"] == 0, (name, head_dim, build)
        assert 16 <= build["registers"] <= (512 if target == "gfx942" else 255)


@pytest.mark.parametrize("variant", ["masked", "dropout"])
def test_masked_and_dropout_variants_build(variant):
    assert all(
        build["fits"] for build in built("bert/1", "sm_90", 24 if variant == "masked" else 64, variant)
    )


BLOCKS = """
import dataclasses, json, sys
from codegen import BlockSizes, build_blocks

target, variant, kernel_size = sys.argv[1:]
sizes, asked = BlockSizes(kernel_sizes=(int(kernel_size),)), {variant: True} if variant != "plain" else {}
builds = [build for _, build in build_blocks(sizes, target, **asked)]
print(json.dumps([dataclasses.asdict(build) | {"fits": build.fits} for build in builds]))
"""


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_kernels_of_the_blocks_fit_and_do_not_spill(target, fresh_seed):
    # A fresh variant and kernel size each run; docs/blocks.md has the table of all.
    rng = Random(f"{fresh_seed}/{target}")
    arguments = [rng.choice(["plain", "masked", "dropout"]), str(rng.choice([3, 7, 17, 33, 65]))]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS, target, *arguments],
        env={**os.environ, "TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    builds = json.loads(done.stdout)
    assert len(builds) == 6
    for build in builds:
        assert build["fits"], (arguments, build)
        assert build["spilled"] == 0, (arguments, build)


def test_nothing_is_built_while_triton_is_an_interpreter():
    with pytest.raises(BackendError, match="TRITON_INTERPRET=1"):
        build_ahead(presets.get("bert/1"), "sm_90")
    with pytest.raises(ValueError, match="sm_80, sm_90, sm_100, gfx942"):
        build_ahead(presets.get("bert/1"), "sm_20")


def test_every_graph_has_tiles_for_every_machine_and_head_dimension(fresh_seed):
    rng = Random(fresh_seed)
    for _ in range(40):
        program = kernel_program(random_graph(rng, SearchSpace()))
        for kernel in program.kernels:
            for machine in MACHINES:
                for block in HEAD_BLOCKS:
                    for own, loop, warps, stages in candidates(kernel, machine, 2, block):
                        # Products of matrices need 16 of everything; lengths are told to be multiples of 16.
                        assert own % 16 == loop % 16 == 0
                        assert warps in (4, 8)
                        assert stages in (1, 2, 3)
