"""What a report is made of, read from the folder of a run while a search may be writing there."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from evolution import Candidate
from evolution.candidate import ranking
from evolution.loop import DUPLICATES
from graphir.files import MAX_FILE_BYTES
from runtime.report.tables import Table, tables_of
from runtime.run import Run
from runtime.run_config import RunConfig
from runtime.sessions import read_sessions

CALIBRATION = "calibration.json"
"""What `opnas calibrate` leaves in the folder of a run."""


@dataclass(frozen=True)
class RunData:
    """A run as it stood at one moment.

    Attributes:
        name: of its folder.
        config: what was asked for.
        candidates: all that were committed, in the order of proposal.
        sessions: when and where it was carried on (`runtime.sessions`).
        winner_metrics: of the trained winner; empty while there is none.
        calibration: tables of the calibration; none where there was none.
        first: when the first session began, as far as that is known.
        last: when the last candidate was committed; None while there is none.
        written: when this was read.
    """

    name: str
    config: RunConfig
    candidates: tuple[Candidate, ...]
    sessions: tuple[dict[str, Any], ...]
    winner_metrics: dict[str, float]
    calibration: tuple[Table, ...]
    first: datetime | None
    last: datetime | None
    written: datetime

    @cached_property
    def ranked(self) -> tuple[Candidate, ...]:
        """Those that have a score, best first."""
        return tuple(sorted((c for c in self.candidates if c.ok), key=ranking))

    @cached_property
    def failures(self) -> tuple[Candidate, ...]:
        """Those that failed."""
        return tuple(c for c in self.candidates if not c.ok)

    @property
    def complete(self) -> bool:
        """Whether there are as many candidates as were asked for, and the winner is trained."""
        return len(self.candidates) >= self.config.candidates and bool(self.winner_metrics)

    @property
    def evaluation_seconds(self) -> float:
        """Of all candidates together."""
        return sum(c.seconds for c in self.candidates)

    @property
    def duplicates(self) -> int | None:
        """Proposals that were known already and so were not trained again; None where nobody counted."""
        counted = [c.metrics[DUPLICATES] for c in self.candidates if DUPLICATES in c.metrics]
        return round(sum(counted)) if counted else None

    @property
    def reasons(self) -> list[tuple[str, list[int]]]:
        """Each reason of a failure with the candidates that failed so, the commonest first."""
        counts = Counter(str(c.reason) for c in self.failures)
        return [
            (reason, [c.index for c in self.failures if str(c.reason) == reason])
            for reason, _ in counts.most_common()
        ]


def collect(folder: str | Path) -> RunData:
    """Read a run.

    Raises:
        RunError: where ``folder`` is not that of a search.
        StudyError: where its study cannot be read.
    """
    run = Run.open(folder)
    candidates: tuple[Candidate, ...] = ()
    last = None
    if run.study_path.exists():  # there is none before the supernet is warm
        with run.open_study(readonly=True) as study:
            last = datetime.fromtimestamp(run.study_path.stat().st_mtime, UTC).astimezone()
            candidates = tuple(study.candidates())
    sessions = tuple(read_sessions(run.folder))
    return RunData(
        name=run.folder.resolve().name,
        config=run.config,
        candidates=candidates,
        sessions=sessions,
        winner_metrics=_winner_metrics(run, candidates),
        calibration=_calibration(run.folder / CALIBRATION),
        first=_time(sessions[0]["begun"]) if sessions else None,
        last=last if candidates else None,
        written=datetime.now().astimezone(),
    )


def state(folder: str | Path) -> str:
    """A text that changes when the run does."""
    parts = []
    for name in ("config.json", "study.db", "sessions.json", CALIBRATION, "best/candidate.json"):
        try:
            found = (Path(folder) / name).stat()
            parts.append(f"{name} {found.st_mtime_ns} {found.st_size}")
        except OSError:
            continue
    return "; ".join(parts)


def _winner_metrics(run: Run, candidates: tuple[Candidate, ...]) -> dict[str, float]:
    """What ``best/candidate.json`` says, if it is of the best candidate."""
    best = min((c for c in candidates if c.ok), key=ranking, default=None)
    try:
        saved = json.loads((run.best_path / "candidate.json").read_bytes())
        if best is None or saved["index"] != best.index:
            return {}
        return {str(name): float(value) for name, value in saved["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _calibration(path: Path) -> tuple[Table, ...]:
    """Its tables. A file that cannot be read becomes a table that says so: the report is about more than it."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"larger than {MAX_FILE_BYTES:,} bytes")
        return tables_of(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError) as error:
        return (Table("", (), (("cannot be read", str(error)[:300]),)),)


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
