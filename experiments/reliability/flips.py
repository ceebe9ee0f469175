"""How many flipped bits does a load take in silence, by kind of file?

Command:   python experiments/reliability/flips.py --out=experiments/reliability/results/flips [--flips=60] [--seed=0]
Hardware:  any; about fifteen minutes on one core; with --flips=600 two hours. Stopped, the same command goes on

Of each kind of file that the project writes (written.py) one is made with a tiny model. Then one random bit of it is
flipped, it is read as a command reads it, and the bit is put back: refused, said on stderr, the same result, or another
one without a word. The same flips are read once more with the hashes switched off: what they are for.
"""

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import runs
import written

from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data import reading, shards
from juliagpt_jax.ground import files, sealed
from juliagpt_jax.ground.errors import CommandError, StorageError
from juliagpt_jax.store import gguf, offered, tensors
from juliagpt_jax.training import metrics


def digest(value):
    """Return a hash of a nested value, numbers to the bit."""
    plain = lambda leaf: f"{np.asarray(leaf).dtype}{np.asarray(leaf).shape}" + np.asarray(leaf).tobytes().hex()
    return hashlib.sha256(
        repr(jax.tree.map(lambda leaf: leaf if isinstance(leaf, str) else plain(leaf), value)).encode()
    ).hexdigest()


def outcome(read, sound):
    """Read, and say what came of it."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found = digest(read())
    except CommandError:
        return "refused"
    except Exception as error:  # what ought not to be
        return f"traceback: {type(error).__name__}"
    return "the same" if found == sound else "said" if said.getvalue() else "SILENT"


class Anything(str):
    """A hash that equals every other."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False


ANYTHING = Anything()


@contextlib.contextmanager
def unchecked():
    """Switch the hashes off."""
    bare = lambda values, what: {k: v for k, v in values.items() if k != sealed.KEY}
    with contextlib.ExitStack() as off:
        for owner, name, value in [
            (sealed, "unseal", bare),
            (tensors, "_check", lambda *_: None),
            (offered, "_offered", lambda *_: ()),
            (metrics, "_held", lambda *_: None),
            (reading, "hold_to_manifest", lambda folder, hashes, flag="": reading.read_manifest(folder, flag)),
            (files, "_digest", lambda arrays: mock.ANY),
            (corpora, "_digest", lambda tokens: ANYTHING),
            (corpora, "_write_cache", mock.Mock(side_effect=StorageError("to be made again"))),
            (gguf, "_hash", lambda path: (re.match(b"()", b""), "")),
            (shards._File, "_check", lambda *_: None),
            (shards, "_held", lambda path, sha256: files.read_array(path)),
        ]:
            off.enter_context(mock.patch.object(owner, name, value))
        yield


def main():
    flags = argparse.ArgumentParser()
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--flips", type=int, default=60)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--only", nargs="+", default=[""], help="kinds whose names begin so; the others' numbers stay")
    options = flags.parse_args()
    results, kept = {}, options.out / "results.json"
    mark = {"flips": options.flips, "seed": options.seed}
    if kept.exists():
        before = json.loads(kept.read_text())
        going_on = options.only == [""] and "done" in before and mark.items() <= before.items() and not before["done"]
        if options.only != [""] or going_on:
            results = before["kinds"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JULIAGPT_CACHE"] = f"{folder}/cache"
        for name, paths, read in written.kinds(Path(folder)):
            if not name.startswith(tuple(options.only)) or (options.only == [""] and name in results):
                continue
            sound, rng = digest(read()), np.random.default_rng(options.seed)
            counts = {"checked": Counter(), "hashes off": Counter()}
            sizes = np.array([path.stat().st_size for path in paths])
            for _ in range(options.flips):
                file = paths[rng.choice(len(paths), p=sizes / sizes.sum())]
                raw = file.read_bytes()
                at, bit = int(rng.integers(len(raw))), int(rng.integers(8))
                flipped = raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :]
                for how, hashes in [("checked", contextlib.nullcontext), ("hashes off", unchecked)]:
                    file.write_bytes(flipped)  # each time: a damaged cache is made again
                    with hashes():
                        counts[how][outcome(read, sound)] += 1
                file.write_bytes(raw)
            assert digest(read()) == sound
            results[name] = {key: dict(sorted(count.items())) for key, count in counts.items()}
            print(name, results[name], flush=True)
            options.out.mkdir(parents=True, exist_ok=True)
            _write(kept, mark | {"hardware": runs.hardware(), "done": options.only != [""], "kinds": results})
            (options.out / "table.md").write_text(table(results))
    _write(kept, mark | {"hardware": runs.hardware(), "done": True, "kinds": results})


def _write(path, values):
    path.write_text(json.dumps(values, indent=1) + "\n")


def table(results):
    words = sorted({*itertools.chain(*(c["checked"] for c in results.values()))} - {"SILENT"})
    lines = [f"| one flipped bit in | {' | '.join(words)} | **silent, another result** | silent with the hashes off |"]
    lines.append("|---" * (len(words) + 3) + "|")
    for name, counts in results.items():
        cells = [str(counts["checked"].get(word, 0)) for word in words]
        silent = [str(counts[which].get("SILENT", 0)) for which in ("checked", "hashes off")]
        lines.append(f"| {name} | {' | '.join(cells)} | **{silent[0]}** | {silent[1]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
