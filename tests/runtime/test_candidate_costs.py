"""Costs as objectives: rooflines against bounds worked out by hand, options, and the front that a search prints."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from evolution import Candidate, Study, make_strategy
from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, InputError, presets
from graphir.cost import backbone_cost
from graphir.devices import DEVICES, roofline_seconds
from runtime.candidate_costs import check_costs_wanted, roofline
from runtime.front_table import print_front
from runtime.proxy_config import ProxyConfig
from runtime.report.objectives import objectives_of
from runtime.run_config import RunConfig

H100 = DEVICES["H100"]
SOFTMAX, LINEAR = "softmax(scale(Q @ K.T)) @ V", "softmax(Q) @ (softmax(K.T) @ V)"


def of(*formulas):
    graphs = [AttentionGraph.from_expression(formula) for formula in formulas]
    return Backbone(tuple(map(AttentionLayer, graphs)), 64, 4, 128)


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_the_roofline_of_plain_attention_is_the_sum_of_its_parts(device):
    length, head_dim, heads, batch, hidden, inner = 1024, 64, 12, 8, 768, 3072
    layer = Backbone(presets.get("bert").layers[:1], hidden, heads, inner)
    # One kernel: two products of 2 S S D operations; it reads Q, K, V and writes the output, and for a backward
    # the logsumexp. No run is faster than its products.
    products = batch * heads * 4 * length**2 * head_dim / device.matrix_flops
    maps = batch * length * 2 * (4 * hidden**2 + 2 * hidden * inner) / device.matrix_flops
    found = roofline(layer, device, length, batch)
    assert found >= products + maps
    # What is neither a product nor a map: exponentials, norms, memory. It is not most of the time at this length.
    assert found < 3 * (products + maps)


def test_a_convolution_layer_has_the_roofline_of_its_cost():
    backbone = Backbone((ConvLayer(7), ConvLayer(3)), 64, 4, 128)
    parts = [backbone_cost(replace(backbone, layers=(layer,)), 128, 4, 2) for layer in backbone.layers]
    assert roofline(backbone, H100, 128, 4) == pytest.approx(sum(roofline_seconds(c, H100) for c in parts))


def test_the_roofline_grows_with_the_square_of_the_length_only_where_attention_does():
    """Attention alone is looked at: what stands beside it is the same in both, and grows with the length."""
    four, thirty_two = (
        roofline(of(SOFTMAX), H100, n, 1) - roofline(of(LINEAR), H100, n, 1) for n in (4096, 32768)
    )
    assert thirty_two / four > 40  # 8 x 8 = 64, less what linear attention takes
    assert roofline(of(LINEAR), H100, 32768, 1) / roofline(of(LINEAR), H100, 4096, 1) == pytest.approx(
        8, rel=0.1
    )


def test_devices_are_named_as_people_write_them_and_unknown_ones_are_refused():
    assert ProxyConfig(latency_device="h100").latency_device == "H100"
    assert ProxyConfig.from_dict(ProxyConfig(latency_device="MI300x").to_dict()).latency_device == "MI300X"
    with pytest.raises(InputError, match="unknown device 'v100': there are a100, h100"):
        ProxyConfig(latency_device="v100")
    with pytest.raises(InputError, match="latency_tokens"):
        ProxyConfig(latency_tokens=0)


@pytest.mark.parametrize(
    ("objective", "option", "given"),
    [
        ("-roofline_ms", "--latency-device, such as h100", {"latency_device": "a100"}),
        ("-latency_ms", "--measure-latency", {"measure_latency": True}),
    ],
)
def test_an_objective_that_nobody_would_record_is_refused_with_the_option_that_is_missing(
    objective, option, given
):
    settings = {"strategy": "nsga2", "strategy_settings": {"objectives": ["score", objective]}}
    with pytest.raises(InputError, match=f"{objective[1:]} needs {option}"):
        check_costs_wanted(RunConfig(**settings))
    check_costs_wanted(RunConfig(**settings, proxy=ProxyConfig(**given)))


def candidate(index, score, parameters, roofline_ms=None):
    metrics = {"parameters": parameters} | ({} if roofline_ms is None else {"roofline_ms": roofline_ms})
    return Candidate(index, of(SOFTMAX), str(index), str(index), 0, None, None, "ok", score, metrics)


def printed(candidates, config):
    file = io.StringIO()
    print_front(candidates, config, Console(file=file, width=120))
    return file.getvalue()


def test_the_front_is_printed_by_score_against_parameters_unless_the_search_had_objectives():
    found = [candidate(0, -5.0, 9000, 0.5), candidate(1, -4.0, 12e6, 0.25), candidate(2, -4.5, 13e6, 0.125)]
    text = printed(found, RunConfig())
    assert "Pareto front of score, -parameters: 2 candidates" in text
    rows = [line.split() for line in text.splitlines()[2:]]
    assert rows[1:] == [["1", "-4.0000", "12", "M"], ["0", "-5.0000", "9", "k"]]
    settings = {"objectives": ["score", "-roofline_ms"]}
    text = printed(found, RunConfig(strategy="nsga2", strategy_settings=settings))
    assert [line.split() for line in text.splitlines()[3:]] == [
        ["1", "-4.0000", "0.25"],
        ["2", "-4.5000", "0.125"],
    ]


def test_a_long_front_is_cut_and_says_so():
    found = [candidate(i, float(i), 1000.0 * i + 5000) for i in range(30)]
    text = printed(found, RunConfig())
    assert len(text.splitlines()) == 2 + 1 + 12 + 1
    assert "and 18 more in the report" in text


def test_the_report_plots_what_was_recorded_and_what_the_search_minimised():
    config = RunConfig(
        strategy="nsga2",
        strategy_settings={"objectives": ["score", "-roofline_ms", "-loss"]},
        proxy=ProxyConfig(latency_device="a100", latency_tokens=4096),
    )
    entry = candidate(0, -4.0, 5e5, 0.25)
    entry = replace(entry, metrics=entry.metrics | {"operations": 7.0, "loss": 4.0, "latency_ms": 3.0})
    found = {o.name: o for o in objectives_of([entry], config)}
    assert list(found) == ["parameters", "operations", "roofline_ms", "latency_ms", "loss"]
    assert {name: o.values[0] for name, o in found.items()} == {
        "parameters": 5e5, "operations": 7.0, "roofline_ms": 0.25e-3, "latency_ms": 3e-3, "loss": 4.0
    }  # fmt: skip
    assert "x 4096 tokens on A100" in found["roofline_ms"].title
    assert list({o.name: o for o in objectives_of([candidate(0, -4.0, 5e5)], RunConfig())}) == [
        "parameters", "operations", "latency"
    ]  # fmt: skip


def test_a_search_records_costs_optimises_them_and_prints_its_front(opnas, tmp_path, tiny_options):
    folder = tmp_path / "run"
    options = ["--strategy", "nsga2", "--objectives", "score,-roofline_ms,-latency_ms"]
    keep = tiny_options.index("--parents")
    arguments = [*tiny_options[:keep], *tiny_options[keep + 2 :], *options, "--latency-device", "a100"]
    code, out, err = opnas("search", "--out", folder, *arguments)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "the objective latency_ms needs --measure-latency" in err
    assert not folder.exists()
    code, out, err = opnas(
        "search", "--out", folder, *arguments, "--measure-latency", "--latency-tokens", 512
    )
    assert code == 0, err
    assert "Pareto front of score, -roofline_ms, -latency_ms" in out
    with Study.open(folder / "study.db", readonly=True) as study:
        for entry in study.ranked():
            expected = 1e3 * roofline(entry.backbone, DEVICES["A100"], 512, 8)
            assert entry.metrics["roofline_ms"] == pytest.approx(expected)
            assert entry.metrics["latency_ms"] > 0
            assert entry.metrics["operations"] == backbone_cost(entry.backbone, 512, 8).flops
    page = (folder / "report.html").read_text()
    assert "pareto-roofline_ms" in page
    assert "pareto-latency_ms" in page
    assert make_strategy("nsga2").objectives == ("score", "-parameters")
