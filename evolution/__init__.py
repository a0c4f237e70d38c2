"""Evolution of backbones: what to try next, and the record of what was tried. Never touches a tensor."""

from evolution.candidate import Candidate, Mutation
from evolution.choices import Choice, ChoiceSpace
from evolution.crossover import cross_backbones, cross_graphs
from evolution.errors import StudyError
from evolution.evaluator import Evaluation, Evaluator, Stop
from evolution.executor import Executor, InProcess, Task
from evolution.fair_sampling import fair_backbones
from evolution.generation import random_backbone, random_graph
from evolution.graph_mutations import GRAPH_MUTATIONS
from evolution.loop import SearchResult, search
from evolution.mutation import LAYER_MUTATIONS, mutate_backbone, mutate_graph
from evolution.objectives import pareto_front
from evolution.priorities import Priorities, PriorityForm
from evolution.priority import OperationPriority
from evolution.rungs import Rungs
from evolution.space import SearchSpace
from evolution.strategy import (
    STRATEGIES,
    CrossoverEvolution,
    GreedyEvolution,
    NondominatedSorting,
    OperationPriorityEvolution,
    RandomSearch,
    RegularizedEvolution,
    Strategy,
    UniformEvolution,
    make_strategy,
)
from evolution.study import Study

__all__ = [
    "GRAPH_MUTATIONS",
    "LAYER_MUTATIONS",
    "STRATEGIES",
    "Candidate",
    "Choice",
    "ChoiceSpace",
    "CrossoverEvolution",
    "Evaluation",
    "Evaluator",
    "Executor",
    "GreedyEvolution",
    "InProcess",
    "Mutation",
    "NondominatedSorting",
    "OperationPriority",
    "OperationPriorityEvolution",
    "Priorities",
    "PriorityForm",
    "RandomSearch",
    "RegularizedEvolution",
    "Rungs",
    "SearchResult",
    "SearchSpace",
    "Stop",
    "Strategy",
    "Study",
    "StudyError",
    "Task",
    "UniformEvolution",
    "cross_backbones",
    "cross_graphs",
    "fair_backbones",
    "make_strategy",
    "mutate_backbone",
    "mutate_graph",
    "pareto_front",
    "random_backbone",
    "random_graph",
    "search",
]
