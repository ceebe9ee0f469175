"""Runs the cells of a suite, each in processes of its own, and keeps results.jsonl.

results.jsonl has one row a cell, each with its hash, and is rewritten whole after each: a killed suite goes on with
what is missing, and a cell that was under way resumes from its own checkpoint. A row whose key is no longer that of its
cell is run again.
"""

import contextlib
import dataclasses
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from juliagpt_jax.ground.command import duration
from juliagpt_jax.ground.errors import CommandError, Stopped, StorageError
from juliagpt_jax.ground.sealed import Changed, read_json, read_rows, write_json, write_rows
from juliagpt_jax.study.suite import Cell, Suite
from juliagpt_jax.training import metrics

LEFT_OUT = {"workdir", "passages", "compilations", "step", "words"}  # of report.json: not numbers of the result


@dataclasses.dataclass
class _Job:
    cells: list[Cell]  # one, or the seeds of an arm that train together
    commands: list[list[str]]
    slot: int
    begun: float
    process: subprocess.Popen | None = None
    at: int = -1


class Runner:
    """Runs what is missing of a suite.

    Args:
        out: folder of results.jsonl.
        jobs: cells at a time; each gets its share of the cores.
        launcher: words put before each command ("srun -n1"), which then decides about cores.
        keep: keep the workdirs of finished cells; otherwise only those that other cells need stay, until the end.
        together: the seeds of an arm train as one process and one step, where they differ in nothing else.
    """

    def __init__(
        self,
        suite: Suite,
        todo: list[Cell],
        out: Path,
        jobs: int,
        launcher: str = "",
        keep: bool = False,
        together: bool = False,
    ):
        self.suite, self.cells, self.out, self.jobs, self.keep = suite, todo, out, jobs, keep
        self.together = together
        self.launcher = shlex.split(launcher)
        self.rows = [row for row in read(out / "results.jsonl") if self._is_current(row)]
        self._seconds: list[float] = []
        self._stop = 0

    def _is_current(self, row: dict[str, Any]) -> bool:
        return any(cell.made_by(row) for cell in self.cells)

    def _status(self, arm: str, seed: int) -> str:
        return next((r["status"] for r in self.rows if r["arm"] == arm and r["seed"] == seed), "missing")

    def missing(self) -> list[Cell]:
        """Cells to run: without a finished row, or without the workdir that such a cell reads."""
        wanted = [c for c in self.cells if self._status(c.arm, c.seed) != "done"]
        while True:
            needed = {(n, c.seed) for c in wanted for n in c.needs}
            more = [
                c for c in self.cells if (c.arm, c.seed) in needed and c not in wanted and not (c.run / "DONE").exists()
            ]
            if not more:
                return [c for c in self.cells if c in wanted]
            wanted += more

    def announce(self, dry_run: bool) -> bool:
        """Print how many cells are to run, and with `dry_run` which. Returns True where they are to be run now."""
        missing = self.missing()
        print(f"{len(self.cells)} cells, {len(missing)} to run", flush=True)
        for cell in missing if dry_run else ():
            print(f"  {cell.arm}, seed {cell.seed}")
        return not dry_run

    def run(self, say: Callable[[str], None] = lambda line: print(line, flush=True)) -> list[dict[str, Any]]:
        """Run until nothing is missing. Returns all rows; a cell that failed has status "FAILED" and its last words.

        Raises:
            Stopped: SIGTERM or Ctrl-C; the cells under way were stopped and will resume.
            StorageError: results.jsonl cannot be written.
        """
        waiting = self.missing()
        total, failed = len(waiting), set()
        running: list[_Job] = []
        old = {number: signal.signal(number, self._ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while waiting or running:
                if self._stop:
                    done = total - len(waiting) - sum(len(job.cells) for job in running)
                    raise Stopped(
                        f"stopped with {done} of {total} cells done; the same command goes on", 128 + self._stop
                    )
                for cell in [c for c in waiting if any((n, c.seed) in failed for n in c.needs)]:
                    waiting.remove(cell)
                    self._finish(cell, 0.0, f"needs {', '.join(cell.needs)}, which failed")
                    failed.add((cell.arm, cell.seed))
                    say(f"{cell.arm}, seed {cell.seed}: FAILED: {self.rows[-1]['error']}")
                busy = {(c.arm, c.seed) for c in [*waiting, *(c for job in running for c in job.cells)]}
                for cell in list(waiting):
                    free = cell in waiting and not any((n, cell.seed) in busy for n in cell.needs)
                    if free and len(running) < self.jobs:
                        cells = [c for c in waiting if c is cell or (self.together and alike(c, cell))]
                        waiting = [c for c in waiting if c not in cells]
                        slot = min(set(range(self.jobs)) - {job.slot for job in running})
                        running.append(self._start(cells, slot))
                for job in list(running):
                    done, error = self._advance(job)
                    if not done:
                        continue
                    running.remove(job)
                    seconds = (time.perf_counter() - job.begun) / len(job.cells)
                    left = len(waiting) + sum(len(other.cells) for other in running) + len(job.cells)
                    for cell in job.cells:
                        self._seconds.append(seconds)
                        # Of seeds that train together one may have ended well.
                        row = self._finish(cell, seconds, "" if (cell.run / "DONE").exists() else error)
                        if row["status"] != "done":
                            failed.add((cell.arm, cell.seed))
                        left -= 1
                        words = f"loss {row['loss']:.4f}" if "loss" in row else "done"  # a verifier has none
                        words = words if row["status"] == "done" else f"FAILED: {row['error']}"
                        eta = f"; about {self._eta(left)} left" if left else ""
                        say(f"[{total - left}/{total}] {cell.arm}, seed {cell.seed}: {words} ({seconds:.0f} s){eta}")
                    self._clean(waiting + [c for other in running for c in other.cells])
                time.sleep(0.05)
        finally:
            for job in running:
                self._end(job)
            for number, handler in old.items():
                signal.signal(number, handler)
        if not self.keep:
            self._clean([])
        return self.rows

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        self._stop = number

    def _eta(self, left: int) -> str:
        return duration(statistics.mean(self._seconds) * left / self.jobs)

    def _start(self, cells: list[Cell], slot: int) -> _Job:
        for cell in cells:
            self._settle(cell)
        cell, seeds = cells[0], ",".join(str(cell.seed) for cell in cells)
        python = [*self.launcher, sys.executable, "-m"]
        commands = [python + shlex.split(command) for command in cell.before]
        overrides = [f"--config.{o}" for o in cell.overrides if len(cells) == 1 or not o.startswith("seed=")]
        workdir = cell.run if len(cells) == 1 else cell.folder.parent / "{seed}" / cell.run.name
        main = [*python, "juliagpt_jax.main", f"--config={self.suite.config}", f"--workdir={workdir}", *overrides]
        commands.append(main if len(cells) == 1 else [*main, f"--seeds={seeds}"])
        return _Job(cells, commands, slot, time.perf_counter())

    def _settle(self, cell: Cell) -> None:
        """Make the cell's folder, empty but for what this very cell left there."""
        cell.folder.mkdir(parents=True, exist_ok=True)
        marker = cell.folder / "recipe.json"
        try:
            mine = cell.made_by(read_json(marker))
        except (OSError, ValueError, AttributeError, Changed):
            mine = False
        if not mine:
            shutil.rmtree(cell.folder)  # what is there belongs to another version of the suite
            cell.folder.mkdir()
            write_json(marker, cell.recipe)

    def _advance(self, job: _Job) -> tuple[bool, str]:
        """Start the job's next command when the one before has ended well. (it is over, why it failed)"""
        if job.process is not None:
            code = job.process.poll()
            if code is None:
                return False, ""
            if code:
                return True, last_words(job.cells[0].folder / "log.txt", code)
            (job.cells[0].folder / f"before{job.at}.done").touch()
            job.process = None
        job.at += 1
        while job.at < len(job.commands) - 1 and (job.cells[0].folder / f"before{job.at}.done").exists():
            job.at += 1
        if job.at == len(job.commands):
            return True, ""
        with open(job.cells[0].folder / "log.txt", "a", encoding="utf-8") as log:
            log.write(f"$ {shlex.join(job.commands[job.at])}\n")
            log.flush()
            with pinned(job.slot, self.jobs, bool(self.launcher)):
                job.process = subprocess.Popen(
                    job.commands[job.at],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C reaches this process alone, which then stops them in order
                )
        return False, ""

    def _end(self, job: _Job) -> None:
        if job.process is None or job.process.poll() is not None:
            return
        os.killpg(job.process.pid, signal.SIGTERM)  # main saves, and resumes later
        try:
            job.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(job.process.pid, signal.SIGKILL)
            job.process.wait()

    def _finish(self, cell: Cell, seconds: float, error: str) -> dict[str, Any]:
        row: dict[str, Any] = cell.recipe | {"status": "done"}
        if not error:
            try:
                row |= _result(cell)
            except (OSError, ValueError, KeyError, CommandError) as failure:
                error = f"its results cannot be read: {type(failure).__name__}: {failure}"
        if error:
            row |= {"status": "FAILED", "error": error}
        row["cell_s"] = seconds
        self.rows = [r for r in self.rows if (r["arm"], r["seed"]) != (cell.arm, cell.seed)] + [row]
        order = {(c.arm, c.seed): n for n, c in enumerate(self.cells)}
        in_order = sorted(self.rows, key=lambda r: order[r["arm"], r["seed"]])
        try:
            write_rows(self.out / "results.jsonl", in_order)
        except OSError as failure:
            raise StorageError(f"{self.out / 'results.jsonl'}: {failure.strerror}") from failure
        return row

    def _clean(self, to_come: list[Cell]) -> None:
        """Remove the workdirs of finished cells that no cell to come reads."""
        if self.keep:
            return
        needed = {(n, c.seed) for c in to_come for n in c.needs} | {(c.arm, c.seed) for c in to_come}
        for cell in self.cells:
            if (cell.arm, cell.seed) not in needed and self._status(cell.arm, cell.seed) == "done":
                shutil.rmtree(cell.folder, ignore_errors=True)


@contextlib.contextmanager
def pinned(slot: int, jobs: int, elsewhere: bool) -> Iterator[None]:
    """Give what is started inside the share of the cores that one of `jobs` slots has; all of them where a launcher
    starts it `elsewhere`."""
    if jobs == 1 or elsewhere or not hasattr(os, "sched_setaffinity"):
        yield
        return
    mine = os.sched_getaffinity(0)
    share = max(1, len(mine) // jobs)
    os.sched_setaffinity(0, {sorted(mine)[(slot * share + i) % len(mine)] for i in range(share)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def alike(one: Cell, other: Cell) -> bool:
    """True where two cells differ in their seed alone, and need nothing before they train."""
    plain = lambda cell: [o for o in cell.overrides if not o.startswith("seed=")]
    return one.arm == other.arm and not (one.commands or one.needs) and plain(one) == plain(other)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a results.jsonl; none if there is no such file.

    Raises:
        StorageError: a line is not a row, or not as it was written.
    """
    rows = read_rows(path)
    for number, row in enumerate(rows, 1):
        for key in ("arm", "seed", "status"):
            if key not in row:
                raise StorageError(f"{path}:{number}: not a row of results: it has no {key!r}")
    return rows


def _result(cell: Cell) -> dict[str, Any]:
    report, facts = (read_json(cell.run / f"{n}.json") for n in ("report", "run"))
    rows = metrics.read(cell.run / "metrics.jsonl")
    measured = "val_loss"
    if cell.averaged:
        raw = {key: report[key] for key in ("loss", "bpc", "perplexity")}
        report, measured = report | report["averaged"] | {"raw": raw}, "averaged_val_loss"
    speeds = [(r["tokens_per_s"], r["step_s"]) for r in rows if r.get("tokens_per_s")]
    return {
        **{k: v for k, v in report.items() if k not in LEFT_OUT},
        "curve": [[r["step"], r[measured]] for r in rows if measured in r],
        "tokens_per_s": statistics.median(s[0] for s in speeds) if speeds else None,
        "step_s": statistics.median(s[1] for s in speeds) if speeds else None,
        **{k: facts[k] for k in ("versions", "commit", "device", "machine")},
    }


def last_words(log: Path, code: int) -> str:
    """Exit code and last line of a command that failed."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"exit {code}: {lines[-1][:300]}"
