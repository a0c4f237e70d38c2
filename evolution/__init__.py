"""Evolution of backbones: what to try next, and the record of what was tried. Never touches a tensor."""

from evolution.candidate import Candidate, Mutation
from evolution.errors import StudyError
from evolution.evaluator import Evaluation, Evaluator
from evolution.generation import random_backbone, random_graph
from evolution.graph_mutations import GRAPH_MUTATIONS
from evolution.loop import SearchResult, search
from evolution.mutation import LAYER_MUTATIONS, mutate_backbone, mutate_graph
from evolution.priority import OperationPriority
from evolution.space import SearchSpace
from evolution.strategy import (
    STRATEGIES,
    OperationPriorityEvolution,
    RandomSearch,
    RegularizedEvolution,
    Strategy,
    make_strategy,
)
from evolution.study import Study

__all__ = [
    "GRAPH_MUTATIONS",
    "LAYER_MUTATIONS",
    "STRATEGIES",
    "Candidate",
    "Evaluation",
    "Evaluator",
    "Mutation",
    "OperationPriority",
    "OperationPriorityEvolution",
    "RandomSearch",
    "RegularizedEvolution",
    "SearchResult",
    "SearchSpace",
    "Strategy",
    "Study",
    "StudyError",
    "make_strategy",
    "mutate_backbone",
    "mutate_graph",
    "random_backbone",
    "random_graph",
    "search",
]
