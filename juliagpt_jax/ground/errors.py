"""The failures that a command reports in one line, each with its exit code."""

import contextlib
from collections.abc import Iterator
from typing import Any


class CommandError(Exception):
    """Ends a command with one line on stderr and `exit_code`; no traceback unless --debug is given."""

    exit_code = 1


class UserError(CommandError):
    """Something the user can put right: a flag, a config value, a file, a workdir that belongs to another run."""

    exit_code = 2


class NumericalError(CommandError):
    """Training met non-finite numbers too many times in a row."""

    exit_code = 3


class StorageError(CommandError):
    """The disk or the memory failed: nothing sound to restore, or the last checkpoint could not be written."""

    exit_code = 4


class HostError(CommandError):
    """Another process of a run on several hosts is gone, or never came."""

    exit_code = 4


class Stopped(CommandError):
    """A signal asked for the end and everything was saved. `exit_code` is 128 + the signal's number."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


@contextlib.contextmanager
def about(what: Any) -> Iterator[None]:
    """Put `what`, a file or a flag, before the message of a UserError that is raised inside the `with`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
