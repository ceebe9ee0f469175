"""Does any edit of a file from outside end in a traceback, in a hang, or in a success that is none?

Command:   python experiments/reliability/edits.py --out=experiments/reliability/results/edits [--edits=500]
Hardware:  any; about 15 minutes on one core. Stopped, the same command goes on.

Of each format in `formats.py` a small sound file is edited at random: bytes set, put in, taken out, doubled, cut off at
the end, numbers and words of another kind in the place of others, brackets nested. It is read as a command reads it. It
may be refused in one line, or accepted; what is accepted must be what the format promises (ids inside the vocabulary,
shares that add up to one, weights that are numbers). An edited file may be sound: a text with another word is a text.
"""

import argparse
import contextlib
import io
import os
import random
import re
import signal
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import formats
import runs

SECONDS = 20  # after which reading a file of a few kilobytes counts as a hang
VALUES = [b"null", b"true", b"-1", b"0", b"1e400", b"NaN", b'"x"', b"[]", b"{}", b"9" * 30, b"9" * 5_000, b"0.5", b'""']
PIECES = [b"\0", b"\xff", b"\r\n", b"\xef\xbb\xbf", b'"', b"{", b"[", b"\\", b"\\ud800", b"<", b"&#0;", b"]]>", b"\xc3"]
PIECES += ["\u2028".encode(), "\U0001f600".encode(), b"[" * 5_000, b'{"a":' * 3_000, b"../../x", b"%s", b"{{", b"\x1b["]
WORD = re.compile(rb'"[^"\n]{0,80}"|-?\d+(?:\.\d+)?|true|false|null')


class Hang(BaseException):
    """The alarm."""


def _ring(*_: Any) -> None:
    raise Hang


def edited(content: bytes, rng: random.Random) -> bytes:
    """Return a content with one to four random edits."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(content) + 1)
        end = min(len(content), at + rng.choice([1, 1, 2, 8, 64, 512]))
        kind = rng.randrange(8)
        if kind == 0:
            content = content[:at] + bytes(rng.randrange(256) for _ in range(end - at)) + content[end:]
        elif kind == 1:
            content = content[:at] + rng.choice(PIECES) + content[at:]
        elif kind == 2:
            content = content[:at] + content[end:]
        elif kind == 3:
            content = content[:end] + content[at:end] * rng.choice([1, 2, 30]) + content[end:]
        elif kind == 4:
            content = content[:at]
        elif kind == 5:
            other = rng.randrange(len(content) + 1)
            content = content[:at] + content[other : other + end - at] + content[end:]
        elif words := list(WORD.finditer(content)):
            found = rng.choice(words)
            value = rng.choice(VALUES) if kind == 6 else rng.choice(words)[0]
            content = content[: found.start()] + value + content[found.end() :]
    return content


def outcome(form: formats.Format, path: Path) -> str:
    """Read a file, and say what came of it."""
    signal.signal(signal.SIGALRM, _ring)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = form.read(path)
        return "accepted" if form.holds(found) else "WRONG"
    except formats.MEANT as error:
        return "refused" if str(error).strip() else "WITHOUT A WORD"  # a command writes it in one line
    except Hang:
        return "HANG"
    except BaseException as error:  # what ought not to be
        where = traceback.extract_tb(error.__traceback__)
        ours = [f for f in where if "juliagpt_jax" in f.filename]
        last = (ours or where)[-1]
        return f"TRACEBACK: {type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {str(error)[:100]}"
    finally:
        signal.alarm(0)


def tried(name: str, count: int, seed: int, keep: Path | None) -> dict[str, Any]:
    """Edit and read a format so many times; what ends badly is kept."""
    form = formats.FORMATS[name]
    rng, counts, bad, slowest = random.Random(f"{name} {seed}"), Counter(), [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = formats.lay(form, Path(folder))
        sound = path.read_bytes()
        assert outcome(form, path) == "accepted", f"{name}: the sound file: {outcome(form, path)}"
        for number in range(count):
            content = edited(sound, rng)
            path.write_bytes(content)
            begun = time.perf_counter()
            end = outcome(form, path)
            slowest = max(slowest, time.perf_counter() - begun)
            counts[end.partition(":")[0]] += 1
            if end not in ("accepted", "refused"):
                bad.append(f"edit {number}: {end}")
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{name.replace(' ', '_')}-{number}").write_bytes(content)
    return {"edits": count, **dict(sorted(counts.items())), "slowest_s": round(slowest, 2), "bad": bad}


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--edits", type=int, default=500)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--only", nargs="+", default=list(formats.FORMATS), choices=list(formats.FORMATS))
    flags.add_argument("--keep", type=Path, help="a folder for edited files that end badly")
    options = flags.parse_args()
    results = runs.Results(options.out / "results.json", f"edits.py --edits={options.edits}")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["JULIAGPT_CACHE"] = cache
        for name in options.only:
            if results.rows.get(name, {}).get("edits") != options.edits:
                results.add(name, **tried(name, options.edits, options.seed, options.keep))
            print(name, results.rows[name], flush=True)
    raise SystemExit(any(row["bad"] for row in results.rows.values()))


if __name__ == "__main__":
    main()
