"""Fuzz the readers of files from outside, guided by what of the code an input reaches.

Command:   python experiments/reliability/fuzz.py --out=experiments/reliability/results/fuzz [--minutes=3]
           (pip install atheris in a Python 3.11 environment of its own that has juliagpt_jax, too)
Hardware:  any; one core, so many minutes for each format

Each format of `formats.py` is a process of its own: libFuzzer, by atheris, changes the sound file and what it found to
reach more, and keeps an input that ends in anything but a value or one line. Inputs that once ended so are kept in
tests/faults/seeds/FORMAT, which a test reads again, and from which the fuzzer begins.
"""

import argparse
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEEDS = Path(__file__).parents[2] / "tests" / "faults" / "seeds"
INSTRUMENTED = ["juliagpt_jax", "jinja2"]


def folder_of(name: str) -> str:
    """Return a format's name as one of a folder."""
    return re.sub(r"\W+", "_", name)


def fuzz(name: str, corpus: Path, seconds: int) -> None:
    """Fuzz one format in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        import formats
    form = formats.FORMATS[name]
    folder = Path(tempfile.mkdtemp())
    path = formats.lay(form, folder)
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "sound").write_bytes(path.read_bytes())
    for seed in (SEEDS / folder_of(name)).glob("*"):
        (corpus / seed.name).write_bytes(seed.read_bytes())

    def one(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                found = form.read(path)
            except formats.MEANT as error:
                assert str(error).strip(), "refused without a word"
                return
        assert form.holds(found), "accepted, and not what the format promises"

    flags = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=3000", f"-artifact_prefix={corpus}/../bad-"]
    atheris.Setup([sys.argv[0], str(corpus), *flags, "-print_final_stats=1", "-verbosity=1"], one)
    atheris.Fuzz()


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--minutes", type=float, default=3.0)
    flags.add_argument("--only", nargs="+", metavar="FORMAT")
    flags.add_argument("--one", help=argparse.SUPPRESS)
    options = flags.parse_args()
    work = Path(os.environ.get("FUZZ_WORK") or tempfile.mkdtemp(prefix="fuzz"))
    if options.one:
        fuzz(options.one, work / folder_of(options.one) / "corpus", round(60 * options.minutes))
        return

    import formats
    import runs

    results = runs.Results(options.out / "results.json", f"fuzz.py --minutes={options.minutes:g}")
    for name in options.only or formats.FORMATS:
        if results.rows.get(name, {}).get("minutes") == options.minutes:
            continue
        begun, own = time.monotonic(), work / folder_of(name)
        (own / "corpus").mkdir(parents=True, exist_ok=True)
        call = [sys.executable, __file__, f"--out={options.out}", f"--minutes={options.minutes}", f"--one={name}"]
        environment = os.environ | {"FUZZ_WORK": str(work), "JULIAGPT_CACHE": str(own / "cache")}
        done = subprocess.run(call, env=environment, capture_output=True, text=True, errors="replace")
        number = lambda key, text=done.stderr: int(found[-1]) if (found := re.findall(rf"{key}:?\s*(\d+)", text)) else 0
        bad = sorted(p.name for p in own.glob("bad-*"))
        why = (
            re.findall(r"=== Uncaught Python exception: ===\n(.*)", done.stderr)[-1:] if bad or done.returncode else []
        )
        results.add(
            name,
            minutes=options.minutes,
            seconds=round(time.monotonic() - begun),
            inputs=number("stat::number_of_executed_units"),
            reached=number("cov"),
            bad=bad,
            **({"why": why or done.stderr[-400:], "kept_in": str(own)} if bad or done.returncode else {}),
        )
        print(name, results.rows[name], flush=True)
    raise SystemExit(any(row["bad"] for row in results.rows.values()))


if __name__ == "__main__":
    main()
