"""Does each guard have a test that fails once the guard is switched off?

Command:   python experiments/reliability/guards.py --out=experiments/reliability/results/guards [--faults 5 6]
Hardware:  Linux with two cores. Stopped, the same command goes on; a guard whose source or test changed is run again.

The package and its tests are copied to a temporary folder. There all tests that `switches.py` names must pass. Then one
guard after another is switched off by an edit of its source, its one test is run in a process, and the source is put
back. The test must fail: an error before it begins is none, a test that hangs is.
"""

import argparse
import compileall
import contextlib
import hashlib
import os
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import runs
from switches import GUARDS, Guard

SECONDS = 600  # after which a test counts as hung
COPIED = ("juliagpt_jax", "tests", "configs", "pyproject.toml")  # what the tests read


class Ending(NamedTuple):
    """What pytest says of tests: those that passed, those that failed and why, and the end of what it printed; "hung"
    where it did not end."""

    passed: list[str]
    failed: dict[str, str]
    end: str


def copied(folder: Path) -> Path:
    """Return a copy of what the tests read. Its compiled files go by their source's contents: two edits of a file in
    one second may leave it with the same size."""
    there = folder / "copy"
    there.mkdir()
    for name in COPIED:
        if (runs.ROOT / name).is_dir():
            shutil.copytree(runs.ROOT / name, there / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(runs.ROOT / name, there / name)
    by_contents = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(there / "juliagpt_jax", quiet=1, invalidation_mode=by_contents)
    return there


def tried(copy: Path, tests: list[str], seconds: float) -> Ending:
    """Run tests in a process of their own, which with all that it started is ended after so many seconds."""
    call = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={copy.parent / 'tests'}"]
    call += ["-m", "long or not long", "-rpfE", "--tb=no", *tests]
    process = subprocess.Popen(
        call,
        cwd=copy,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "300", "PYTHONPATH": str(copy)},
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
        end = said[-2_000:]
    except subprocess.TimeoutExpired:
        said, end = "", "hung"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    passed = re.findall(r"^PASSED (tests/.+)$", said, re.MULTILINE)
    failed = re.findall(r"^FAILED (tests/.+?)(?: - (.*))?$", said, re.MULTILINE)
    return Ending(passed, dict(failed), end)


def switched_off(copy: Path, guard: Guard) -> dict[str, object]:
    """Run a guard's test without the guard, and say what came of it."""
    path, begun = copy / "juliagpt_jax" / guard.file, time.monotonic()
    sound = path.read_text(encoding="utf-8")
    path.write_text(sound.replace(guard.old, guard.new), encoding="utf-8")
    try:
        ending = tried(copy, [guard.test], SECONDS)
    finally:
        path.write_text(sound, encoding="utf-8")
    found = {"test": guard.test, "noticed": bool(ending.failed) or ending.end == "hung"}
    why = next(iter(ending.failed.values()), ending.end)
    why = re.sub(r"[\w.-]*/(?:[\w.-]+/)*", "", why)  # folders, which are of one machine
    return found | {"says": why[:200], "seconds": round(time.monotonic() - begun), "of": digest(guard)}


def digest(guard: Guard) -> str:
    """Return a hash of a guard, its source and its test's file."""
    files = (runs.ROOT / "juliagpt_jax" / guard.file, runs.ROOT / guard.test.partition("::")[0])
    return hashlib.sha256(b"\0".join([repr(guard).encode(), *(file.read_bytes() for file in files)])).hexdigest()[:16]


def named(test: str, nodes: list[str]) -> bool:
    """Tell whether a test, or a case of it, is among nodes of pytest."""
    return any(node == test or node.startswith(f"{test}[") for node in nodes)


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--faults", type=int, nargs="+", default=sorted({g.fault for g in GUARDS}), metavar="N")
    options = flags.parse_args()
    results = runs.Results(options.out / "results.json", "guards.py")
    results.rows = {g.name: results.rows[g.name] for g in GUARDS if g.name in results.rows}
    asked = [guard for guard in GUARDS if guard.fault in options.faults]
    for guard in asked:
        count = (runs.ROOT / "juliagpt_jax" / guard.file).read_text(encoding="utf-8").count(guard.old)
        if count != 1:
            raise SystemExit(f"{guard.name}: its text is {count} times in {guard.file}, not once")
    todo = [guard for guard in asked if results.rows.get(guard.name, {}).get("of") != digest(guard)]
    with tempfile.TemporaryDirectory() as folder:
        copy, tests = copied(Path(folder)), list(dict.fromkeys(guard.test for guard in todo))
        ending = tried(copy, tests, SECONDS * len(tests)) if tests else Ending([], {}, "")
        for test in tests:
            if named(test, list(ending.failed)) or not named(test, ending.passed):
                raise SystemExit(f"{test} does not pass as the code is:\n{ending.end}")
        for guard in todo:
            results.add(guard.name, **switched_off(copy, guard))
            row = results.rows[guard.name]
            says = "noticed" if row["noticed"] else "SURVIVED"
            print(f"{guard.name}: {says} in {row['seconds']} s: {row['says'][-150:]!r}", flush=True)
    noticed = sum(results.rows[guard.name]["noticed"] for guard in asked)
    print(f"{noticed} of {len(asked)} guards are missed by their tests once they are switched off")
    raise SystemExit(noticed < len(asked))


if __name__ == "__main__":
    main()
