"""Strategies replayed on tables of trained networks: which of them needs how many evaluations.

`python -m runtime.bench_search` prints the tables. The strategies are those of `evolution`, unchanged; what is not
shared with a search is said in `runtime.bench_search.replay`.
"""

from runtime.bench_search.contest import ENTRANTS, Contest, contest
from runtime.bench_search.nas_bench_bert import read_nas_bench_bert
from runtime.bench_search.nas_bench_graph import read_nas_bench_graph
from runtime.bench_search.table_space import TableSpace

__all__ = ["ENTRANTS", "Contest", "TableSpace", "contest", "read_nas_bench_bert", "read_nas_bench_graph"]
