"""Batches made ahead of the step that needs them, in threads: reading a disk and numpy's copying let others run."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

THREADS, AHEAD = 2, 4


class Prefetch:
    """Call `make(step)` for the next steps before they are asked for. A batch is a pure function of its step, so a run
    that jumps, as a resumed one does, only starts anew."""

    def __init__(self, make: Callable[[int], Any], threads: int = THREADS, ahead: int = AHEAD):
        self._make, self._ahead = make, ahead
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
        self._made: dict[int, Future] = {}

    def __call__(self, step: int) -> Any:
        """Return what `make` returns for a step, or raise what it raises."""
        wanted = range(step, step + self._ahead + 1)
        for other in [other for other in self._made if other not in wanted]:
            self._made.pop(other).cancel()
        for other in wanted:
            if other not in self._made:
                self._made[other] = self._pool.submit(self._make, other)
        return self._made.pop(step).result()

    def close(self) -> None:
        """Let the threads end; what they have not begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._made.clear()
