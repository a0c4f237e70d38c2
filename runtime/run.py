"""`Run`: one folder a search. What it was asked to do stands in ``config.json``, what it found in ``study.db``."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from evolution import SearchSpace, Strategy, Study, make_strategy
from graphir import OpnasError
from graphir.files import MAX_FILE_BYTES, write_json
from runtime.proxy import PROXY_SPACE, ProxyConfig

RUN_FORMAT = "opnas.run/1"


class RunError(OpnasError, ValueError):
    """A run folder that cannot be made, read or continued."""


@dataclass(frozen=True)
class RunConfig:
    """What a search was asked to do.

    Attributes:
        corpus: absolute path of the text file; None for Python's own documentation.
        corpus_digest: `Corpus.digest` of the text that the search began with.
        candidates: how many candidates the study shall hold in the end.
        minutes: no candidate is begun after this many minutes of searching; None for no limit. A resumed
            search has that many minutes again.
        seed: of all draws.
        strategy: name of the strategy.
        strategy_settings: its fields.
        space: what may be proposed.
        proxy: sizes and times of the proxy task.
        winner_steps: training steps of the winner before it is saved.

    Raises:
        ValueError: naming the field that is out of bounds.
    """

    corpus: str | None
    corpus_digest: str
    candidates: int = 40
    minutes: float | None = None
    seed: int = 0
    strategy: str = "opnas"
    strategy_settings: dict[str, Any] = field(default_factory=dict)
    space: SearchSpace = PROXY_SPACE
    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    winner_steps: int = 400

    def __post_init__(self) -> None:
        for name, low in (("candidates", 1), ("seed", 0), ("winner_steps", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= 2**31:
                raise ValueError(f"{name} must be a whole number of at least {low}, not {str(value)[:40]!r}")
        if self.minutes is not None and not (isinstance(self.minutes, int | float) and self.minutes > 0):
            raise ValueError(f"minutes must be a number above 0, not {str(self.minutes)[:40]!r}")
        self.make_strategy()

    def make_strategy(self) -> Strategy:
        """The strategy with its settings."""
        return make_strategy(self.strategy, **self.strategy_settings)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            **asdict(self),
            "format": RUN_FORMAT,
            "space": self.space.to_dict(),
            "proxy": self.proxy.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Any) -> RunConfig:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: for another version, missing or unknown fields, or values out of bounds.
        """
        names = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or data.get("format") != RUN_FORMAT:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"unknown format {str(found)[:60]!r}: this version reads {RUN_FORMAT!r}")
        given = set(data) - {"format"}
        if given != names:
            raise ValueError(f"these fields are missing or unknown: {', '.join(sorted(given ^ names))[:200]}")
        if not isinstance(data["strategy_settings"], dict) or not isinstance(data["strategy"], str):
            raise ValueError("strategy must be a name and strategy_settings an object")
        values = {name: data[name] for name in names}
        values["space"] = SearchSpace.from_dict(data["space"])
        values["proxy"] = ProxyConfig.from_dict(data["proxy"])
        return cls(**values)


class Run:
    """The folder of one search. Made by `create` or `open`.

    Attributes:
        folder: where everything is.
        config: what was asked for.
    """

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder = folder
        self.config = config
        self.study_path = folder / "study.db"
        self.supernet_path = folder / "supernet.safetensors"
        self.best_path = folder / "best"
        self.log_path = folder / "logs" / "search.log"

    @classmethod
    def create(cls, folder: str | Path, config: RunConfig) -> Run:
        """Make the folder with its configuration; it appears whole or not at all.

        Raises:
            RunError: where ``folder`` exists or cannot be made.
        """
        folder = Path(folder)
        refuse_existing(folder)
        with new_folder(folder) as temporary:
            (temporary / "logs").mkdir()
            write_json(temporary / "config.json", config.to_dict())
        return cls(folder, config)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open the folder of an earlier search.

        Raises:
            RunError: where there is none, or its configuration cannot be read.
        """
        folder = Path(folder)
        path = folder / "config.json"
        if not path.is_file():
            raise RunError(f"{folder} is not the folder of a search: it holds no config.json")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RunError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes")
        try:
            return cls(folder, RunConfig.from_dict(json.loads(path.read_bytes())))
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path} cannot be read: {str(error)[:300]}") from None

    def remove_leftovers(self) -> None:
        """Remove what a killed process had begun to write. Only for who holds the study open for writing."""
        for path in self.folder.glob(".*.tmp"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def open_study(self, readonly: bool = False) -> Study:
        """The study; made if there is none yet and ``readonly`` is not asked for.

        Raises:
            StudyError: where it cannot be read, or another process is writing it.
        """
        if not readonly and not self.study_path.exists():
            return Study.create(self.study_path, self.config.to_dict())
        return Study.open(self.study_path, readonly)


def refuse_existing(folder: Path) -> None:
    """Raise `RunError` if something is there already."""
    if folder.exists() or folder.is_symlink():
        raise RunError(f"{folder} exists already: choose another --out, or remove it")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name; it appears whole under its own, or not at all.

    Raises:
        RunError: where it cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    except OSError as error:
        raise RunError(f"{folder} cannot be made: {error.strerror}") from None
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
