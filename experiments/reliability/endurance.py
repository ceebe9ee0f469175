"""Do memory, open files, threads and the time of a step stay flat over a long run?

Command:   python experiments/reliability/endurance.py --out=experiments/reliability/results/endurance [--steps=20000]
Hardware:  any; about five minutes on two idle cores

A tiny model trains so many steps with 100 saves and evaluations, watched from outside: what the system says of the
process in the last quarter of the rows of its metrics is held to what it says in the second.
"""

import argparse
import contextlib
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path

import runs

# By which the median of the last quarter may be above that of the second; a save under way has files and threads more.
MOST = {"megabytes": 20, "files": 2, "threads": 2}


def seen(pid: int) -> dict[str, int]:
    """Return what the system says of a process: megabytes in use, open files, threads."""
    status = Path(f"/proc/{pid}/status").read_text()
    number = lambda name: int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1])  # pyright: ignore
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return {"megabytes": number("VmRSS") >> 10, "files": files, "threads": number("Threads")}


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--steps", type=int, default=20_000)
    flags.add_argument("--kind", default="transformer", choices=list(runs.KINDS))
    options = flags.parse_args()
    results = runs.Results(options.out / "results.json", f"endurance.py --steps={options.steps}")
    every, rows = max(1, options.steps // 100), max(1, options.steps // 400)
    more = {
        "steps": options.steps,
        "checkpoint_every": every,
        "eval_every": every,
        "log_every": rows,
        "sample_every": 0,
    }
    with tempfile.TemporaryDirectory() as folder:
        scratch, looks = Path(folder), []
        kind = runs.KINDS[options.kind]
        call = kind.flags(scratch, runs.write_text(scratch / "text.txt"))
        call += [f"--config.train.{key}={value}" for key, value in more.items()]
        workdir = kind.workdirs(scratch)[0]
        with open(scratch / "log", "w") as log:
            process = runs.start("main", call, scratch / "cache", log, log)
            while process.poll() is None:
                with contextlib.suppress(OSError, TypeError):  # it may end between two looks
                    there = workdir / "metrics.jsonl"
                    done = there.read_bytes().count(b"\n") if there.exists() else 0
                    looks.append({"rows": done} | seen(process.pid))
                time.sleep(0.2)
        assert process.returncode == 0, (scratch / "log").read_text()[-2_000:]
        lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step_s"] for line in lines if line.get("step_s")]
    total = max(look["rows"] for look in looks)
    quarter = lambda n: [look for look in looks if total * n / 4 <= look["rows"] < total * (n + 1) / 4] or looks[-1:]
    values = {
        f"{what}, quarter {n + 1}": round(statistics.median(look[what] for look in quarter(n)))
        for what in MOST
        for n in range(4)
    }
    cut = len(steps) // 4
    times = {
        f"step ms, quarter {n + 1}": round(1e3 * statistics.median(steps[n * cut : (n + 1) * cut]), 3) for n in range(4)
    }
    flat = all(values[f"{what}, quarter 4"] <= values[f"{what}, quarter 2"] + most for what, most in MOST.items())
    steady = times["step ms, quarter 4"] < 1.5 * times["step ms, quarter 2"]
    results.add(options.kind, steps=options.steps, saves=100, flat=flat, steady=steady, **values, **times)
    print(json.dumps(results.rows[options.kind], indent=1))
    raise SystemExit(not flat)


if __name__ == "__main__":
    main()
