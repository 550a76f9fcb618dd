"""What can go wrong with a request. A failure travels as a kind, never as text to be searched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Literal

FailureKind = Literal["cancelled", "bad-input", "out-of-memory", "out-of-space", "non-finite", "internal"]


@dataclass(frozen=True)
class FileProblem:
    """One bad file among several."""

    path: str
    message: str


class WorkerError(Exception):
    """The work cannot be done, and the message tells a user why. Becomes the `failure` of the request."""

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        hint: str | None = None,
        problems: Iterable[FileProblem] = (),
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)


class Cancelled(WorkerError):
    """The CLI asked to stop. Raised by `Job.check_cancelled` and let through by everything else."""

    def __init__(self) -> None:
        super().__init__("cancelled", "Stopped on request.")


def bad_input(message: str, *, hint: str | None = None, problems: Iterable[FileProblem] = ()) -> WorkerError:
    """A file or a value that was given cannot be used."""
    return WorkerError("bad-input", message, hint, problems)


def non_finite(message: str, *, hint: str | None = None) -> WorkerError:
    """A number that must be finite became NaN or infinite."""
    return WorkerError("non-finite", message, hint)


def file_problem(path: str | PathLike[str], message: str) -> FileProblem:
    """A problem of one file, to be collected with its like before anything is raised."""
    return FileProblem(fspath(path), message)
