"""Measure every checkpoint of a run once, also while it trains: rows of `evaluations.jsonl`, and a view in TensorBoard.

The rows lie in the run's workdir and are held by one process at a time; the run itself never looks at them. A row names
its checkpoint by the hash of its manifest, and how it was measured, so nothing is measured twice, and what has changed
is. A row is written whole, or cut off when the next process opens the file. The event file in `evaluations/`, in a
folder for each way to measure, is made anew of the rows then, so that it says what these say.
"""

import contextlib
import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.board import Board
from juliagpt_jax.ground.config import flatten
from juliagpt_jax.ground.errors import CommandError, NumericalError, StorageError, UserError
from juliagpt_jax.ground.files import sha256
from juliagpt_jax.store.manifest import MANIFEST, steps

ROWS, VIEW = "evaluations.jsonl", "evaluations"
POLL = 5.0  # seconds between two looks at a run that trains
# Measure(step) -> the numbers of a checkpoint, and a line that says them.
Measure = Callable[[int], tuple[dict[str, Any], str]]
Say = Callable[[str], Any]


class Evaluations:
    """The rows of a run's checkpoints, open for more until the end of a `with`.

    Args:
        how: they are measured in this way, whose rows are shown.

    Raises:
        UserError: another process has them open, or they cannot be written there.
        StorageError: a row is damaged.
    """

    def __init__(self, workdir: Path, how: Mapping[str, Any]):
        self.path, self.how = workdir / ROWS, dict(how)
        self._folder = workdir / VIEW / sealed.digest(self.how)[:8]
        try:
            self._file = open(self.path, "ab+")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror}") from error
        with contextlib.ExitStack() as failed:
            failed.callback(self._file.close)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"{self.path} is in use: another process measures these checkpoints") from error
            except OSError as error:
                raise UserError(f"{self.path}: cannot be locked there: {error.strerror}") from error
            raw = self.path.read_bytes()
            self._file.truncate(raw.rfind(b"\n") + 1)  # what a killed process left is no row
            self._rows = sealed.read_rows(self.path)
            self._board = self._view()
            failed.pop_all()

    def __enter__(self) -> "Evaluations":
        return self

    def __exit__(self, *error: object) -> None:
        self._board.close()
        self._file.close()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Those that were measured in this way."""
        return [row for row in self._rows if row.get("how") == self.how]

    def has(self, mark: str) -> bool:
        """Tell whether there is a row of a checkpoint."""
        return any(row.get("checkpoint") == mark for row in self.rows)

    def add(self, step: int, mark: str, values: Mapping[str, Any]) -> None:
        """Write the row of a checkpoint to the disk.

        Raises:
            StorageError: there is no room.
        """
        row = sealed.seal({"step": step, "checkpoint": mark, "how": self.how, **values})
        try:
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror}") from error
        self._rows.append(row)
        self._board.write(step, numbers(row))

    def _view(self) -> Board:
        """Show all rows there are."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob("events.out.tfevents.*"):
            old.unlink()
        board = Board(self._folder, truth=ROWS)
        for row in self.rows:
            board.write(row["step"], numbers(row))
        return board


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a row by their names, "phases/trivium/loss", as TensorBoard groups them."""
    values = {name.replace(".", "/"): value for name, value in flatten(row).items()}
    shown = lambda name, v: name != "step" and not name.startswith("how/") and type(v) in (int, float)
    return {name: float(v) for name, v in values.items() if shown(name, v) and math.isfinite(v)}


class Passed(NamedTuple):
    """A checkpoint that was not measured, and why; `error` where that is no fault of the clock."""

    step: int
    why: str
    error: CommandError | None = None


def run(
    workdir: Path, measure: Measure, how: Mapping[str, Any], follow: bool, say: Say, poll: float = POLL
) -> list[dict[str, Any]]:
    """Measure all checkpoints that no row is of yet, the oldest first; return all rows that are of these numbers.

    A checkpoint that its run removes while it is read is passed over, and so is one that is damaged, or whose numbers
    are not finite: all are said.

    Args:
        how: what decides the numbers beside the checkpoint; it is part of each row.
        follow: go on until the run has ended: look again every `poll` seconds.

    Raises:
        UserError, StorageError: as `Evaluations`.
        StorageError, NumericalError: at the end, where checkpoints are damaged or not finite.
    """
    bad: dict[str, Passed] = {}
    with Evaluations(workdir, how) as known:
        waiting = False
        while True:
            ended = _ended(workdir)  # before the look, which is the last then
            new = False
            for step in steps(workdir / "checkpoints"):
                mark = _mark(workdir, step)
                if mark is None or mark in bad or known.has(mark):
                    continue
                new, waiting = True, False
                found = _measured(workdir, step, measure)
                if isinstance(found, Passed):
                    say(f"step {step}: {found.why}; passed over")
                    if found.error:
                        bad[mark] = found
                    continue
                values, line = found
                known.add(step, mark, values)
                say(f"step {step}: {line}")
            if ended or not follow:
                break
            if not new and not waiting:
                waiting = True
                say(f"waiting for checkpoints of {workdir}; Ctrl-C ends this")
            time.sleep(0 if new else poll)
        for own in bad.values():
            assert own.error is not None
            names = ", ".join(str(one.step) for one in bad.values())
            raise type(own.error)(f"{workdir}: checkpoints that could not be measured: {names}") from own.error
        return known.rows


def wait(workdir: Path, say: Say, poll: float = POLL) -> None:
    """Wait for the first checkpoint of a run that has begun; not where it has ended without one."""
    told = False
    while workdir.is_dir() and not steps(workdir / "checkpoints") and not _ended(workdir):
        if not told:
            say(f"waiting for checkpoints of {workdir}; Ctrl-C ends this")
        told = True
        time.sleep(poll)


def _ended(workdir: Path) -> bool:
    return any((workdir / name).exists() for name in ("DONE", "FAILED"))


def _mark(workdir: Path, step: int) -> str | None:
    """Return what a checkpoint is known by; None of one that is not there, or not whole yet."""
    try:
        return sha256(workdir / "checkpoints" / str(step) / MANIFEST)
    except OSError:
        return None


def _measured(workdir: Path, step: int, measure: Measure) -> tuple[dict[str, Any], str] | Passed:
    """Return the numbers of a checkpoint, or why there are none.

    Raises:
        UserError: it cannot be measured so, and neither can any other.
    """
    try:
        return measure(step)
    except (CommandError, OSError, ValueError) as error:
        if not (workdir / "checkpoints" / str(step)).exists():
            return Passed(step, "the run removed it while it was read")
        if isinstance(error, StorageError | NumericalError):
            return Passed(step, str(error), error)
        raise
