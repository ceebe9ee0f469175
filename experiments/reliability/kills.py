"""Does a run that is killed and started again end with the bits of one that was never disturbed?

Command:   python experiments/reliability/kills.py --out=experiments/reliability/results/kills [--kills=100]
Hardware:  any; about 25 minutes on two idle cores. Stopped, the same command goes on.

Each kind of `runs.py` is trained once in peace. Then a process that trains it is killed by SIGKILL: by turns at a
random instant of its life and inside a save, while unfinished files of a checkpoint lie on the disk. The same command
is given again, and everything that it left is held to the run in peace.
"""

import argparse
import itertools
import json
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import runs

LIMIT = 600  # seconds after which a process counts as hung
TRIES = 20  # to kill a process before it is done


def trained(kind: runs.Kind, folder: Path, text: Path, cache: Path) -> tuple[int, str, float]:
    """Train to the end; return the exit code, the end of stderr and the seconds it took."""
    begun = time.monotonic()
    process = runs.start("main", kind.flags(folder, text), cache)
    try:
        _, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        return 124, "hung", LIMIT
    return process.returncode, err[-500:], time.monotonic() - begun


def killed(kind: runs.Kind, folder: Path, text: Path, cache: Path, how: str, rng: random.Random, life: float) -> None:
    """Begin to train, and kill the process. One that was done before is begun again, and killed earlier.

    Raises:
        RuntimeError: it ended with an error, or was done before at every try.
    """
    for attempt in range(TRIES):
        process = runs.start("main", kind.flags(folder, text), cache, subprocess.DEVNULL, subprocess.DEVNULL)
        if how == "at random":
            time.sleep(rng.uniform(0, life * 0.8**attempt))
        else:
            most = max(1, 4 * len(kind.workdirs(folder)) - attempt)
            saves, seen, there = rng.randint(1, most), 0, set()
            while process.poll() is None and seen < saves:
                now = {str(p) for w in kind.workdirs(folder) for p in w.glob("checkpoints/*.partial*")}
                seen, there = seen + bool(now - there), now
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.05))
        process.kill()
        code = process.wait()
        if code == -signal.SIGKILL:
            return
        if code:
            raise RuntimeError(f"it ended with exit code {code} before it was killed")
        runs.remove(folder)
    raise RuntimeError(f"it was done before it was killed, {TRIES} times")


def unfinished(kind: runs.Kind, folder: Path) -> bool:
    """Whether a save was cut off."""
    return any(True for w in kind.workdirs(folder) for _ in w.glob("checkpoints/*.partial*"))


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--kills", type=int, default=100)
    flags.add_argument("--only", nargs="+", default=list(runs.KINDS), choices=list(runs.KINDS), metavar="KIND")
    options = flags.parse_args()
    results = runs.Results(options.out / "results.json", f"kills.py --kills={options.kills}")
    with tempfile.TemporaryDirectory() as scratch:
        text, cache = runs.write_text(Path(scratch) / "text.txt"), Path(scratch) / "cache"
        peace: dict[str, tuple[list, float]] = {}
        for number, name in zip(range(options.kills), itertools.cycle(options.only), strict=False):
            how = "inside a save" if number // len(options.only) % 2 else "at random"
            key, kind = f"{number:03}: {name}, {how}", runs.KINDS[name]
            if key in results.rows:
                continue
            if name not in peace:
                kind.make(text, cache)
                trained(kind, Path(scratch) / "compiled", text, cache)  # it also fills the cache of compiled programs
                folder = Path(scratch) / "peace" / name
                code, err, life = trained(kind, folder, text, cache)
                assert code == 0, f"{name}: {err}"
                peace[name] = [runs.contents(w) for w in kind.workdirs(folder)], life
                runs.remove(Path(scratch) / "compiled")
            rng, folder = random.Random(number), Path(scratch) / "killed"
            killed(kind, folder, text, cache, how, rng, peace[name][1])
            cut = unfinished(kind, folder)
            code, err, _ = trained(kind, folder, text, cache)
            found = [runs.contents(w) for w in kind.workdirs(folder)] if code == 0 else []
            pairs = zip(found, peace[name][0], strict=code == 0)
            other = sorted({part for a, b in pairs for part in {*a, *b} if a.get(part) != b.get(part)})
            same = code == 0 and not other
            more = {} if same else {"exit": code, "stderr": err, "differs": other}
            results.add(key, kind=name, how=how, unfinished_save=cut, identical=same, **more)
            print(key, "identical" if same else f"NOT IDENTICAL: {more}", flush=True)
            runs.remove(folder)
    rows = list(results.rows.values())
    inside = sum(row["unfinished_save"] for row in rows)
    print(json.dumps({"kills": len(rows), "inside a save": inside, "identical": sum(r["identical"] for r in rows)}))
    raise SystemExit(not all(row["identical"] for row in rows))


if __name__ == "__main__":
    main()
