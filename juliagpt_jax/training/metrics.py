"""metrics.jsonl, the truth about a run, and TensorBoard, a view of it."""

import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from juliagpt_jax.ground.board import Board
from juliagpt_jax.ground.errors import StorageError
from juliagpt_jax.ground.files import replacing
from juliagpt_jax.store.manifest import Damaged, read_meta, steps
from juliagpt_jax.training.tracking import Tracker

# What the clock says; everything else in a row is the same bits in every run of the same command.
TIMING = ("tokens_per_s", "step_s", "mfu")


class Metrics:
    """Appends rows to `workdir/metrics.jsonl`, and their numbers to TensorBoard event files and to a tracker.

    Opening drops what does not belong to the first `step` steps: later rows and a torn last line. So the file of a
    resumed run equals that of one that was never stopped. Anything else that is not as it was written is said on
    stderr, and the file is kept as it was beside the new one, as `metrics.jsonl.damaged`.
    """

    def __init__(self, workdir: Path, step: int, tracker: Tracker | None = None):
        self.path, self._tracker = workdir / "metrics.jsonl", tracker
        kept = self._kept(step)
        self._size, self._hash = len(kept), hashlib.sha256(kept)
        with replacing(self.path) as temporary:
            temporary.write_bytes(kept)
        self._file = open(self.path, "a", encoding="utf-8")
        self._events = Board(workdir, step)

    def _kept(self, step: int) -> bytes:
        """Return what there is of the first `step` steps, held to the checkpoint of that step."""
        raw = self.path.read_bytes() if self.path.exists() else b""
        held = _held(self.path.parent / "checkpoints" / str(step))
        if held and held == fingerprint(raw[: held["bytes"]]):
            return raw[: held["bytes"]]
        rows, bad = _rows(raw)
        kept = "".join(json.dumps(row) + "\n" for row in rows if row["step"] <= step).encode()
        if held and not self.path.exists():
            print(f"warning: {self.path} is missing: the rows up to step {step} are lost", file=sys.stderr)
        elif bad or held:
            aside = self.path.with_name(f"{self.path.name}.damaged")
            aside.write_bytes(raw)
            what = f"line {bad[0]} is no row" if bad else f"its rows up to step {step} are not those that were written"
            more = f", nor are {len(bad) - 1} others" if len(bad) > 1 else ""
            print(f"warning: {self.path} is damaged: {what}{more}; kept as it was in {aside.name}", file=sys.stderr)
        return kept

    def fingerprint(self) -> dict[str, Any]:
        """Return size and SHA-256 of the file as it is now, for the checkpoint of the step that was written last."""
        with contextlib.suppress(OSError):  # a full disk is told of by the checkpoint
            os.fsync(self._file.fileno())  # a checkpoint must not outlive the rows that it knows
        return {"bytes": self._size, "sha256": self._hash.hexdigest()}

    def write(self, row: dict[str, Any]) -> None:
        """A row has an integer "step" and plain numbers; a number that is not finite is written as null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        line = json.dumps(clean) + "\n"
        self._file.write(line)
        self._file.flush()
        self._size += len(line)  # JSON is ASCII
        self._hash.update(line.encode())
        numbers = {k: v for k, v in clean.items() if k != "step" and v is not None}
        self._events.write(row["step"], numbers)
        if self._tracker:
            self._tracker.write(row["step"], numbers)

    def close(self) -> None:
        self._events.close()
        if self._tracker:
            self._tracker.close()
        self._file.close()


def read(path: Path, checked: bool = True) -> list[dict[str, Any]]:
    """Return the rows of a metrics file but for a torn last line; none if there is no file and no checkpoint knows one.

    Args:
        checked: false in the process that writes it, which has said already what is damaged, and leaves that out.

    Raises:
        StorageError: another line is no row, or the newest checkpoint was saved beside other rows.
    """
    raw = path.read_bytes() if path.exists() else b""
    rows, bad = _rows(raw)
    if not checked:
        return rows
    if bad:
        raise StorageError(f"{path}:{bad[0]}: damaged: not a row of metrics")
    for step in reversed(steps(path.parent / "checkpoints")):
        held = _held(path.parent / "checkpoints" / str(step))
        if held and not path.exists():
            raise StorageError(f"{path} is missing: checkpoint {step} was saved beside its rows")
        if held and held != fingerprint(raw[: held["bytes"]]):
            raise StorageError(f"{path}: damaged: its rows up to step {step} are not those that were written")
        if held:
            break
    return rows


def fingerprint(raw: bytes) -> dict[str, Any]:
    """Return size and SHA-256 of bytes, as a checkpoint keeps them of metrics.jsonl."""
    return {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def _held(folder: Path) -> dict[str, Any] | None:
    """Return what a checkpoint says of metrics.jsonl; None where it is none, or one of version 0.1."""
    try:
        return read_meta(folder).get("metrics")
    except Damaged:
        return None


def _rows(raw: bytes) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the rows, and the numbers of the lines that are none; a torn last line is neither."""
    rows, bad = [], []
    for number, line in enumerate(raw.split(b"\n")[:-1], 1):
        try:
            row = json.loads(line.decode("utf-8"))
            if type(row["step"]) is not int:
                raise ValueError
            rows.append(row)
        except (ValueError, KeyError, TypeError, RecursionError):
            bad.append(number)
    return rows, bad


def plot(
    workdir: Path,
    floor: float,
    characters_per_token: tuple[float, float] = (1.0, 1.0),
    unit: str = "bits per character",
) -> Path:
    """Draw `plots/loss.png`: training and validation loss in bits per character, and the corpus's entropy if it is
    known.

    Args:
        characters_per_token: of the training and of the validation text.
    """
    training, validation = (1 / (math.log(2) * characters) for characters in characters_per_token)
    lines = [
        ("loss", "training", training),
        ("val_loss", "validation", validation),
        ("averaged_val_loss", "validation, averaged weights", validation),
    ]
    return _draw(workdir, "loss", lines, floor, ylabel=unit)


def plot_solved(workdir: Path) -> Path:
    """Draw `plots/solved.png`: the share of test puzzles that are solved while a run trains."""
    lines = [
        ("solved", "training, at any of its steps", 1.0),
        ("val_solved", "test, after the last step", 1.0),
        ("averaged_val_solved", "test, averaged weights", 1.0),
    ]
    return _draw(workdir, "solved", lines, ylabel="share of puzzles solved", ylim=(0, 1))


def _draw(
    workdir: Path, name: str, lines: Sequence[tuple[str, str, float]], floor: float = math.nan, **axis: Any
) -> Path:
    """Draw `plots/NAME.png`: over the steps, lines of metrics.jsonl, each a key, a label and what its values are
    multiplied by; the first one thin, since it is measured at many steps. A `floor` that is a number is drawn, too."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = read(workdir / "metrics.jsonl", checked=False)
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for i, (key, label, unit) in enumerate(lines):
        points = [(row["step"], row[key] * unit) for row in rows if row.get(key) is not None]
        if points:
            marker = "o" if len(points) < 2 else None
            axes.plot(*zip(*points, strict=True), label=label, marker=marker, linewidth=1.8 if i else 1.0)
    if math.isfinite(floor):
        axes.axhline(floor, color="black", linestyle=":", linewidth=1, label="entropy of the corpus")
    axes.set(xlabel="step", title=workdir.resolve().name, **axis)
    axes.grid(alpha=0.3)
    axes.legend()
    path = workdir / "plots" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
