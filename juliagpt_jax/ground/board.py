"""TensorBoard's event files, a view of numbers that lie elsewhere."""

import contextlib
import socket
import sys
import time
from pathlib import Path
from typing import Any


class Board:
    """An event file; one that cannot be written is given up with a warning.

    It is written from the calling thread: the thread of tensorboardX's SummaryWriter dies on a full disk, and then its
    queue fills up and holds the caller for ever.
    """

    def __init__(self, folder: Path, step: int = 0, truth: str = "metrics.jsonl"):
        """Begin a file in a folder that is there.

        Args:
            step: TensorBoard leaves out what earlier files say of later steps; 0: it does not.
            truth: the file that has all numbers, for the warning.
        """
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.record_writer import RecordWriter  # pulls in protobuf: only where it is used
        from tensorboardX.summary import scalar

        self._event, self._scalar, self._truth = Event, scalar, truth
        self._writer: RecordWriter | None = None
        try:
            self._writer = RecordWriter(str(folder / self._name(folder)))
            self._add(file_version="brain.Event:2")
            if step:
                self._add(step=step + 1, session_log=SessionLog(status=SessionLog.START))
        except OSError as error:
            self._give_up(error)

    @staticmethod
    def _name(folder: Path) -> str:
        """Return the name of a new file, which TensorBoard reads after those that are there: it goes by the number in
        it, a time. A clock that was put back has no say in that, and no file takes the place of another."""
        there = (path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*.*"))
        begun = max([int(time.time()), *(int(number) + 1 for number in there if number.isdecimal())])
        return f"events.out.tfevents.{begun:010d}.{socket.gethostname()}"

    def _add(self, **values: Any) -> None:
        assert self._writer is not None
        self._writer.write(self._event(wall_time=time.time(), **values).SerializeToString())

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add the numbers of a step."""
        if self._writer is None:
            return
        try:
            for key, value in values.items():
                self._add(step=step, summary=self._scalar(key, value))
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
        print(f"warning: no more TensorBoard events: {error.strerror}; {self._truth} has all numbers", file=sys.stderr)
