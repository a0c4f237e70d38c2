"""Ray: the archive of one process, and a node that is lost costs only the candidates that it held."""

import importlib.util
import os
import sys

import pytest

from evolution import SearchSpace, Study, make_strategy, search
from graphir import InputError
from runtime.executors.limits import Limits
from tests.runtime.executor_evaluators import Misbehaves, Scrambled

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is an optional extra: pip install 'opnas[ray]'"
)
SPACE = SearchSpace(layers=3, hidden_size=16, heads=2, ffn_size=16)
STRATEGY = make_strategy("opnas", population=8, parents=3, children=2)


def searched(path, evaluator, candidates, **options):
    with Study.create(path) as study:
        search(study, SPACE, STRATEGY, evaluator, candidates=candidates, seed=4, budget=1, **options)
        return [(c.index, c.backbone, c.parent, c.status, c.score, c.metrics) for c in study.candidates()], [
            c.reason for c in study.candidates()
        ]


def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    from runtime.executors.ray_cluster import RayExecutor

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'opnas\[ray\]'"):
        RayExecutor()


@pytest.fixture
def cluster(monkeypatch):
    """One node of one core, that of the search, to which others can be added."""
    monkeypatch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@needs_ray
@pytest.mark.long
def test_a_cluster_of_two_nodes_that_loses_one_gives_the_archive_of_one_process(tmp_path, cluster):
    from runtime.executors.ray_cluster import RayExecutor

    node = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    lost, flights = [], []

    def lose(candidate):
        if candidate.index == 10:
            cluster.remove_node(node, allow_graceful=False)
            lost.append(candidate.index)

    with RayExecutor(3) as executor:
        executor.serve(Scrambled(0.5))
        found = searched(
            tmp_path / "ray.db", executor, 24, on_candidate=lose, on_flight=lambda n: flights.append(n)
        )
    assert lost == [10]
    assert max(flights) == 3
    assert found == searched(tmp_path / "here.db", Scrambled(0.0), 24)


@needs_ray
@pytest.mark.long
def test_limits_and_deaths_are_those_of_processes_here(tmp_path, cluster):
    from runtime.executors.ray_cluster import RayExecutor

    deeds = ((1, "hang"), (2, "allocate fast"), (3, "be killed once"), (4, "crash"))
    with RayExecutor(2, Limits(seconds=2, memory_gb=1)) as executor:
        executor.serve(Misbehaves(0.0, deeds, str(tmp_path / "calls")))
        candidates, reasons = searched(tmp_path / "ray.db", executor, 8)
    assert reasons[1:3] == ["stopped after 2 s", "needed more than 1.0 GB"]
    assert reasons[4] == "its worker died 2 times: killed by SIGSEGV"
    wanted, wanted_reasons = searched(tmp_path / "here.db", Scrambled(0.0), 8)
    for index in (0, 3, 5, 6, 7):
        assert (candidates[index], reasons[index]) == (wanted[index], wanted_reasons[index])
