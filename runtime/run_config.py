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

_LATER = {"rungs", "eta"}
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
        rungs: steps after which a candidate goes on only if it is among the best 1/eta so far; none by default.
        eta: see ``rungs``.

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
    rungs: tuple[int, ...] = ()
    eta: int = DEFAULT_ETA

    def __post_init__(self) -> None:
        for name, low in (("candidates", 1), ("seed", 0), ("winner_steps", 0)):
            check_whole(getattr(self, name), name, low, MAX_COUNT)
        if self.minutes is not None:
            check_number(self.minutes, "minutes", above=True)
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
        if not names - _LATER <= given <= names:
            raise InputError(
                f"these fields are missing or unknown: {', '.join(sorted(given ^ names - _LATER))[:200]}"
            )
        values = {name: data[name] for name in given}
        values["space"] = SearchSpace.from_dict(data["space"])
        proxy = data["proxy"]
        # A search from before there were probes goes on with language alone.
        values["proxy"] = ProxyConfig.from_dict({"task": LANGUAGE, **proxy} if isinstance(proxy, dict) else proxy)
        return cls(**values)
