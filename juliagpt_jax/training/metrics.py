"""metrics.jsonl, the truth about a run, and TensorBoard, a view of it."""

import contextlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

# What the clock says; everything else in a row is the same bits in every run of the same command.
TIMING = ("tokens_per_s", "step_s", "mfu")


class Metrics:
    """Appends rows to `workdir/metrics.jsonl`, and their numbers to TensorBoard event files.

    Opening drops what does not belong to the first `step` steps: later rows and a torn last line. So the file of a
    resumed run equals that of one that was never stopped.
    """

    def __init__(self, workdir: Path, step: int):
        self.path = workdir / "metrics.jsonl"
        kept = [row for row in read(self.path) if row["step"] <= step]
        temporary = self.path.with_suffix(".jsonl.new")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        temporary.replace(self.path)
        self._file = open(self.path, "a", encoding="utf-8")
        self._events = _Events(workdir, step)

    def write(self, row: dict[str, Any]) -> None:
        """A row has an integer "step" and plain numbers; a number that is not finite is written as null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self._file.write(json.dumps(clean) + "\n")
        self._file.flush()
        self._events.write(row["step"], {k: v for k, v in clean.items() if k != "step" and v is not None})

    def close(self) -> None:
        self._events.close()
        self._file.close()


class _Events:
    """A TensorBoard event file; one that cannot be written is given up with a warning.

    It is written from the calling thread: the thread of tensorboardX's SummaryWriter dies on a full disk, and then its
    queue fills up and holds the caller for ever.
    """

    def __init__(self, workdir: Path, step: int):
        from tensorboardX.event_file_writer import EventsWriter  # pulls in protobuf: only where it is used
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.summary import scalar

        self._event, self._scalar = Event, scalar
        self._writer: EventsWriter | None = None
        try:
            self._writer = EventsWriter(str(workdir / "events"))
            if step:  # TensorBoard then leaves out what earlier files say of later steps
                start = SessionLog(status=SessionLog.START)
                self._writer.write_event(self._event(step=step + 1, wall_time=time.time(), session_log=start))
        except OSError as error:
            self._give_up(error)

    def write(self, step: int, values: dict[str, float]) -> None:
        if self._writer is None:
            return
        try:
            for key, value in values.items():
                self._writer.write_event(
                    self._event(step=step, wall_time=time.time(), summary=self._scalar(key, value))
                )
            self._writer.flush()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _give_up(self, error: OSError) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
        self._writer = None
        print(f"warning: no more TensorBoard events: {error.strerror}; metrics.jsonl has all numbers", file=sys.stderr)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file up to the first that is torn; none if there is no file."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            try:
                row = json.loads(line)
                row["step"]
            except (ValueError, KeyError, TypeError):
                break
            rows.append(row)
    return rows


def plot(workdir: Path, floor: float, characters_per_token: tuple[float, float] = (1.0, 1.0)) -> Path:
    """Draw `plots/loss.png`: training and validation loss in bits per character, and the corpus's entropy if it is
    known.

    Args:
        characters_per_token: of the training and of the validation text.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = read(workdir / "metrics.jsonl")
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for key, label in [
        ("loss", "training"),
        ("val_loss", "validation"),
        ("averaged_val_loss", "validation, averaged weights"),
    ]:
        bits = math.log(2) * characters_per_token[key != "loss"]
        points = [(row["step"], row[key] / bits) for row in rows if row.get(key) is not None]
        if points:
            marker = "o" if len(points) < 2 else None
            axes.plot(*zip(*points, strict=True), label=label, marker=marker, linewidth=1.0 if key == "loss" else 1.8)
    if math.isfinite(floor):
        axes.axhline(floor, color="black", linestyle=":", linewidth=1, label="entropy of the corpus")
    axes.set(xlabel="step", ylabel="bits per character", title=workdir.resolve().name)
    axes.grid(alpha=0.3)
    axes.legend()
    path = workdir / "plots" / "loss.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
