"""No result depends on the clock on the wall: durations are of a monotonic one, and order comes from steps."""

import itertools
import math
import re
import shutil
from pathlib import Path

from juliagpt_jax.training import metrics

ROOT = Path(__file__).parents[2]
# What the wall's clock may say: the lines' own time in TensorBoard's files, what a protocol or a chat template asks
# for, who holds a lock.
SAYS = {"data/chat.py", "ground/board.py", "serving/completions.py", "serving/server.py", "store/claim.py"}
WALL = re.compile(r"\btime\.(?:time|time_ns|localtime|gmtime|ctime|strftime)\(|\bdatetime\b|\bst_[acm]time\b|getmtime")
# A machine whose clock was lost, and runs backwards: every look at it is an hour earlier.
BACKWARDS = """
import itertools, time
hours = itertools.count(9_000_000, -3600)
time.time = lambda: float(next(hours))
time.time_ns = lambda: next(hours) * 10**9
"""


def test_no_other_file_looks_at_the_wall():
    found = {
        path.relative_to(ROOT / "juliagpt_jax").as_posix()
        for path in (ROOT / "juliagpt_jax").rglob("*.py")
        if WALL.search(path.read_text(encoding="utf-8"))
    }
    assert found == SAYS


def test_a_run_that_goes_on_with_a_clock_before_its_own_beginning(clean, micro, tmp_path):
    """In 1970, hour by hour towards its beginning: the same rows, and times that are lengths of time."""
    workdir = tmp_path / "run"
    shutil.copytree(clean, workdir, symlinks=True)
    shutil.rmtree(workdir / "checkpoints" / "40")
    for name in ("DONE", "report.json"):
        (workdir / name).unlink()
    done = micro.train(workdir, before=BACKWARDS)
    assert "going on after step 30 of 40" in done.out
    plain = lambda folder: [
        {key: value for key, value in row.items() if key not in metrics.TIMING}
        for row in metrics.read(folder / "metrics.jsonl")
    ]
    assert plain(workdir) == plain(clean)
    seconds = [row["step_s"] for row in metrics.read(workdir / "metrics.jsonl") if "step_s" in row]
    assert all(0 < s < 90 and math.isfinite(s) for s in seconds)
    names = sorted(path.name for path in workdir.glob("events.out.tfevents.*"))
    times = [int(name.split(".")[3]) for name in names]
    assert len(times) == 2 and all(late > early for early, late in itertools.pairwise(times))
