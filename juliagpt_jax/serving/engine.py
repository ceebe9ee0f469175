"""Continuous batching: requests join and leave one running batch between blocks of steps, so several users share each
step.

`submit` and `cancel` may be called from any thread; one thread of the engine's own does all the computing. A request
gets what `Generator` gives for its prompt, rule and seed alone, past the context too (a window that rolls, or a cache
that evicts), as far as products of one row and of B rows round alike; who shares the batch changes nothing.
"""

import collections
import functools
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.serving.batch import Batch, Row, Scores
from juliagpt_jax.serving.job import Job, Piece, Request

MOST_FAILURES = 3  # blocks in a row after which the engine gives up


class Busy(Exception):
    """Refusal of a queue that has no room; there may be some in `retry_after` seconds."""

    def __init__(self, retry_after: int):
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class Closed(Exception):
    """Refusal of an engine that takes no more requests: it is about to stop, or broken."""


class Engine:
    """The batch, the queue before it and the thread that runs them.

    Args:
        rows: of the batch: requests that are served at the same time.
        queue: requests that may wait for a row.
        block: tokens between two visits to the host, where requests join, leave and stream; see `Batch`.
        broken: called from the engine's thread when it cannot go on.
        adapters: that requests may name; see `Batch`.
    """

    def __init__(
        self,
        generator: Generator,
        tokenizer: Tokenizer,
        rows: int,
        queue: int,
        block: int,
        broken: Callable[[Exception], Any] = lambda error: None,
        adapters: Any = (),
    ):
        self.batch, self.tokenizer = Batch(generator, rows, block, adapters), tokenizer
        self.rows, self.limit, self.broken = rows, queue, broken
        self._name = functools.cache(lambda token: tokenizer.decode(np.array([token])))
        self._rows: list[Job | None] = [None] * rows
        self._queue: collections.deque[Job] = collections.deque()
        self._changed = threading.Condition()
        self._closed = self._stopped = False
        self._seconds = 1.0  # that a request has a row, a running mean
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> int:
        """Rows in use."""
        return sum(row is not None for row in self._rows)

    @property
    def queued(self) -> int:
        """Requests that wait for a row."""
        return len(self._queue)

    @property
    def closed(self) -> bool:
        return self._closed

    def submit(self, requests: Sequence[Request], deliver: Callable[[int, Piece], Any]) -> list[Job]:
        """Queue requests, all or none; `deliver(number, piece)` is called from the engine's thread and must not wait.

        Raises:
            Busy: there is no room for them.
            Closed: see there.
        """
        way = lambda number: lambda piece: deliver(number, piece)
        jobs = [Job(request, self.tokenizer, self._name, way(n)) for n, request in enumerate(requests)]
        with self._changed:
            if self._closed:
                raise Closed("the server is stopping")
            before = self.busy + len(self._queue)
            if before + len(jobs) > self.rows + self.limit:
                raise Busy(max(1, math.ceil(self._seconds * before / self.rows)))
            self._queue.extend(jobs)
            self._changed.notify_all()
        return jobs

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Forget jobs that nobody waits for any more: their rows are free after the block that is being computed."""
        with self._changed:
            for job in jobs:
                job.cancelled = True
            self._queue = collections.deque(job for job in self._queue if not job.cancelled)
            self._changed.notify_all()

    def start(self) -> None:
        """Compute in a thread of its own until `stop`."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more requests; those that were taken go on."""
        with self._changed:
            self._closed = True

    def wait_idle(self, seconds: float) -> bool:
        """Wait until nothing runs and nothing waits. Returns whether that was so in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopped or not (self._queue or self.busy), seconds)

    def stop(self) -> None:
        """End the thread after its block; whatever is not done gets an error."""
        with self._changed:
            self._closed = self._stopped = True
            self._changed.notify_all()
        if self._thread:
            self._thread.join()
        self._give_up("the server has stopped", everyone=True)

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._queue or self.busy)
                if self._stopped:
                    return
            try:
                self.step()
                failures = 0
            except Exception as error:  # whatever it is, it ends these requests and not the server
                failures += 1
                self._fail(error, give_up=failures == MOST_FAILURES)

    def _fail(self, error: Exception, give_up: bool) -> None:
        """Begin again with an empty batch."""
        says = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        print(f"serve: a block of steps failed: {says}", file=sys.stderr, flush=True)
        if not give_up:
            try:
                self.batch.reset()  # the old state may have been given away
            except Exception as again:
                error, give_up = again, True
        if give_up:
            with self._changed:
                self._closed = self._stopped = True
        self._give_up(f"the model failed: {says}", everyone=give_up)
        if give_up:
            self.broken(error)

    def _give_up(self, why: str, everyone: bool) -> None:
        """Tell those in the batch, or everyone, that there is no more."""
        with self._changed:
            lost = [job for job in self._rows if job and not job.cancelled]
            self._rows = [None] * self.rows
            if everyone:
                lost += self._queue
                self._queue.clear()
            self._changed.notify_all()
        for job in lost:
            job.deliver(Piece(error=why))

    def step(self) -> None:
        """Let requests join, write one block of tokens, deliver it, and let those leave that are done."""
        for index, job in self._joining():
            self._join(index, job)
        live = [(index, job) for index, job in enumerate(self._rows) if job]
        for index, job in live:
            window, left = self.batch.window, job.request.max_tokens - job.done
            if job.done % self.batch.stride == 0 and window.rolls(len(job.window), min(self.batch.stride, left)):
                self._prefill(index, job, window.in_sight(job.window), scored=False)
        if live:
            rules = [job.request.rule for _, job in live]
            cut = any((rule.top_k or rule.top_p < 1) and not rule.greedy for rule in rules)
            scored = any(job.request.logprobs is not None for _, job in live)
            tokens, scores = self._write(live, cut, scored)
            for index, job in live:
                own = Scores(*(leaf[:, index] for leaf in scores)) if scores else None
                if not job.cancelled and job.add(tokens[:, index].tolist(), own):
                    self._leave(index, job)
        with self._changed:
            self._changed.notify_all()

    def _write(self, live: Sequence[tuple[int, Job]], cut: bool, scored: bool) -> tuple[np.ndarray, Scores | None]:
        """Write a block; token by token where a guide has a say in a row."""
        guides = [(index, job.guide) for index, job in live if job.guide]
        if not guides:
            return self.batch.advance(cut, scored)
        tokens, scores = [], []
        for _ in range(self.batch.block):
            allowed = np.ones((self.rows, self.batch.model.vocab), bool)
            for index, guide in guides:
                allowed[index] = guide.allowed()[0]
            drawn, found = self.batch.advance(cut, scored, allowed)
            drawn = np.array(drawn)
            for index, guide in guides:
                drawn[:, index] = guide.take(drawn[0, index : index + 1])
            tokens.append(drawn)
            scores.append(found)
        joined = Scores(*(np.concatenate(leaves) for leaves in zip(*scores, strict=True))) if scored else None
        return np.concatenate(tokens), joined

    def _joining(self) -> list[tuple[int, Job]]:
        """Take the rows of those who left, and give free rows to those who wait longest."""
        with self._changed:
            joining = []
            for index, row in enumerate(self._rows):
                if row and row.cancelled:
                    self._rows[index] = row = None
                if row is None and self._queue:
                    self._rows[index] = job = self._queue.popleft()
                    joining.append((index, job))
            return joining

    def _join(self, index: int, job: Job) -> None:
        request = job.request
        job.joined = time.monotonic()
        prompt = request.prompt.tolist()
        if request.max_tokens or request.scores_prompt:
            scores = self._prefill(index, job, self.batch.window.begin(prompt), request.scores_prompt)
            if scores:
                job.note_prompt(scores)
        if (request.echo or not request.max_tokens) and job.add([], None):
            self._leave(index, job)

    def _prefill(self, index: int, job: Job, window: list[int], scored: bool) -> Scores | None:
        request, job.window = job.request, list(window)
        row = Row.of(request.rule, request.prompt, request.seed, request.nth, request.adapter)
        return self.batch.start(index, np.array(window, np.int32), row._replace(drawn=np.uint32(job.done)), scored)

    def _leave(self, index: int, job: Job) -> None:
        self._rows[index] = None
        self._seconds += 0.1 * (time.monotonic() - job.joined - self._seconds)
