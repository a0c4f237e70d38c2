"""`RunConfig`: what a search was asked to do, and the one place where its defaults stand."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from evolution import Rungs, SearchSpace, Strategy, make_strategy
from evolution.rungs import DEFAULT_ETA
from evolution.strategy import describe_strategy
from graphir import InputError
from graphir.checks import check_number, check_whole, excerpt
from runtime.proxy_config import LANGUAGE, PROXY_SPACE, ProxyConfig

RUN_FORMAT = "opnas.run/2"
"""In version 1 scores were accuracies; those of a search that goes on must be of one kind."""
MAX_COUNT = 2**31
MAX_WORKERS = 4096
EXECUTORS = ("local", "processes", "ray")
DEFAULT_LIMIT_SECONDS = 600.0
"""Of a candidate; that of a default search takes a few seconds."""
_LATER = {
    "comparison_steps",
    "rungs",
    "eta",
    "executor",
    "workers",
    "limit_seconds",
    "limit_memory",
    "asynchronous",
}
"""Fields that older runs do not have."""


@dataclass(frozen=True)
class RunConfig:
    """What a search was asked to do. The defaults are those of `opnas search`.

    Attributes:
        corpus: absolute path of the text file; a bare name for one that is kept in the run's folder; None for
            Python's own documentation.
        corpus_digest: `Corpus.digest` of the text that the search began with; empty while it has not begun.
        candidates: how many candidates the study shall hold in the end.
        minutes: no candidate is begun after this many minutes of searching; None for no limit. A resumed
            search has that many minutes again.
        seed: of all draws.
        strategy: name of the strategy.
        strategy_settings: its fields. Those that are left out take their defaults, and are kept here as well.
        space: what may be proposed.
        proxy: sizes and times of the proxy task.
        winner_steps: training steps of the winner before it is saved.
        comparison_steps: training steps of the winner and its rivals in the closing comparison; 0 for none.
        rungs: steps after which a candidate goes on only if it is among the best 1/eta so far; none by default.
        eta: see ``rungs``.
        executor: who evaluates candidates: "local" in the process of the search, "processes" of their own on this
            machine, or "ray" on a cluster. In ordered mode neither this nor ``workers`` changes what is found.
        workers: how many candidates are evaluated at a time; None for one a core, or one a GPU.
        limit_seconds: time of a candidate, more than which makes it a failure; None for `DEFAULT_LIMIT_SECONDS`.
        limit_memory: GB of memory of the process that evaluates a candidate, likewise; None for an equal share of most
            of the machine's. Neither limit holds for "local".
        asynchronous: whether no worker waits for another. Such a search **cannot be reproduced**.

    Raises:
        InputError: naming the field that is out of bounds.
    """

    corpus: str | None = None
    corpus_digest: str = ""
    candidates: int = 40
    minutes: float | None = None
    seed: int = 0
    strategy: str = "opnas"
    strategy_settings: dict[str, Any] = field(default_factory=dict)
    space: SearchSpace = PROXY_SPACE
    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    winner_steps: int = 400
    comparison_steps: int = 200
    rungs: tuple[int, ...] = ()
    eta: int = DEFAULT_ETA
    executor: str = "processes"
    workers: int | None = None
    limit_seconds: float | None = None
    limit_memory: float | None = None
    asynchronous: bool = False

    def __post_init__(self) -> None:
        for name, low in (("candidates", 1), ("seed", 0), ("winner_steps", 0), ("comparison_steps", 0)):
            check_whole(getattr(self, name), name, low, MAX_COUNT)
        for name in ("minutes", "limit_seconds", "limit_memory"):
            if getattr(self, name) is not None:
                check_number(getattr(self, name), name, above=True)
        self._check_executor()
        if not isinstance(self.corpus, str | None) or not isinstance(self.corpus_digest, str):
            raise InputError("corpus must be a path or nothing, and corpus_digest a text")
        if not isinstance(self.strategy, str) or not isinstance(self.strategy_settings, dict):
            raise InputError("strategy must be a name and strategy_settings an object")
        for name, kind in (("space", SearchSpace), ("proxy", ProxyConfig)):
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"{name} must be a {kind.__name__}, not {excerpt(getattr(self, name))}")
        rungs = self.make_rungs()
        rungs.check_budget(self.proxy.candidate_steps)
        object.__setattr__(self, "rungs", rungs.steps)
        described = describe_strategy(self.make_strategy())
        del described["name"]
        object.__setattr__(self, "strategy_settings", described)

    def _check_executor(self) -> None:
        if self.executor not in EXECUTORS:
            raise InputError(f"executor must be {', '.join(EXECUTORS)}, not {excerpt(self.executor)}")
        if self.workers is not None:
            check_whole(self.workers, "workers", 1, MAX_WORKERS)
        if not isinstance(self.asynchronous, bool):
            raise InputError(f"asynchronous must be true or false, not {excerpt(self.asynchronous)}")
        if self.executor != "local":
            return
        if self.workers not in (None, 1):
            raise InputError(f"the executor local has one worker, not {self.workers}: use processes")
        if self.limit_seconds is not None or self.limit_memory is not None:
            raise InputError("the executor local has no limits of time and memory: use processes")

    def make_strategy(self) -> Strategy:
        """The strategy with its settings."""
        return make_strategy(self.strategy, **self.strategy_settings)

    def make_rungs(self) -> Rungs:
        """Where candidates may be stopped."""
        return Rungs(self.rungs, self.eta)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            **asdict(self),
            "format": RUN_FORMAT,
            "space": self.space.to_dict(),
            "proxy": self.proxy.to_dict(),
            "rungs": list(self.rungs),
        }

    @classmethod
    def from_dict(cls, data: Any) -> RunConfig:
        """Read what `to_dict` wrote; fields that older runs do not have take their defaults.

        Raises:
            InputError: for another version, missing or unknown fields, or values out of bounds.
        """
        names = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or data.get("format") != RUN_FORMAT:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise InputError(f"unknown format {str(found)[:60]!r}: this version reads {RUN_FORMAT!r}")
        given = set(data) - {"format"}
        wrong = (given - names) | (names - _LATER - given)
        if wrong:
            raise InputError(f"these fields are missing or unknown: {', '.join(sorted(wrong))[:200]}")
        values = {name: data[name] for name in given}
        values["space"] = SearchSpace.from_dict(data["space"])
        proxy = data["proxy"]
        # A search from before there were probes goes on with language alone.
        values["proxy"] = ProxyConfig.from_dict(
            {"task": LANGUAGE, **proxy} if isinstance(proxy, dict) else proxy
        )
        return cls(**values)
