"""SIGTERM and Ctrl-C ask for the end: the step is finished and saved. A second one ends the process at once.

Python runs its signal handlers between two bytecodes only, which a long compilation never reaches. So a thread reads
the signals from the wake-up pipe, into which the C handler writes in any state.
"""

import contextlib
import os
import signal
import sys
import threading


class StopRequest:
    """Use as a context in the main thread; `signal` is the number of the first stop signal received, or 0."""

    def __init__(self):
        self.signal = 0

    def __enter__(self) -> "StopRequest":
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._writer = writer
        self._old_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._old = {s: signal.signal(s, lambda *_: None) for s in (signal.SIGTERM, signal.SIGINT)}
        threading.Thread(target=self._watch, daemon=True, name="signals").start()
        return self

    def _watch(self) -> None:
        while received := os.read(self._reader, 1):
            number = received[0]
            if number not in (signal.SIGTERM, signal.SIGINT):
                continue
            if self.signal:
                os._exit(128 + number)
            self.signal = number
            with contextlib.suppress(OSError):
                os.write(sys.stderr.fileno(), b"\nstopping after this step; once more to stop at once\n")
        os.close(self._reader)

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        os.close(self._writer)  # ends the thread
