"""Every failure a person at the screen can act on.

    AppError
    ├── BadInput            what was given cannot be used (file, row, field)
    │   └── BadRow          … with the number of the row
    ├── NotFound            no such thing; what there is instead
    ├── NotAllowed          this role may not do this
    │   └── NotSignedIn     nobody has said who they are
    ├── DatabaseInUse       another process owns the database file
    ├── ShuttingDown        nothing is stored any more until Plumbline is back
    ├── DiskFull            nothing could be written; nothing was half-written
    ├── NotEnoughFeedback   too few rows to learn from
    ├── ModelNotLoadable    a path or name that is not a model
    ├── EngineUnavailable   the model server does not answer (yet)
    │   └── WrongKey        … to whom has no key, or another
    ├── EngineRefused       the model server said no, and why
    └── RunFailed           a training run could not go on

Each message says what is wrong, where, and what to do now. Any other exception is a bug and goes to the log.
"""

from __future__ import annotations


class AppError(Exception):
    """Written for the person at the screen. `status` is what an HTTP route answers with."""

    status = 400


class BadInput(AppError):
    """What was given cannot be used."""


class BadRow(BadInput):
    """A row of a file that cannot be read."""

    def __init__(self, file: str, row: int, problem: str, way_out: str) -> None:
        super().__init__(f"{file}, row {row}: {problem}. {way_out} Nothing was imported.")
        self.row = row


class NotFound(AppError):
    status = 404


class NotAllowed(AppError):
    status = 403


class NotSignedIn(NotAllowed):
    """Nobody has said who they are."""


class DatabaseInUse(AppError):
    """Another Plumbline owns the file."""

    status = 503


class ShuttingDown(AppError):
    """Nothing is stored any more until Plumbline is back."""

    status = 503


class DiskFull(AppError):
    status = 507


class NotEnoughFeedback(AppError):
    """Too few rows for a method to learn from."""

    def __init__(self, method: str, rows: str, found: int, needed: int) -> None:
        super().__init__(
            f"{method} needs at least {needed} {rows}; there are {found}. Label more prompts, "
            "or choose a method that learns from what you already have."
        )


class ModelNotLoadable(AppError):
    """A path or a name that is not a model we can load."""


class EngineUnavailable(AppError):
    status = 503


class WrongKey(EngineUnavailable):
    """It does not answer whoever has no key, or another."""


class EngineRefused(AppError):
    status = 422


class RunFailed(AppError):
    """A run that could not go on."""
