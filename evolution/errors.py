"""The error of a study."""

from __future__ import annotations

from graphir import OpnasError


class StudyError(OpnasError, ValueError):
    """A study that cannot be opened, read or continued. The message says why, and what would be right."""
