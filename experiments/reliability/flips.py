"""How many flipped bits does a load take in silence, by kind of file?

Command:   python experiments/reliability/flips.py --out=experiments/reliability/results/flips [--flips=60] [--seed=0]
Hardware:  any; about fifteen minutes on one core; with --flips=600 two hours. Stopped, the same command goes on

Of each kind of file that the project writes one is made with a tiny model. Then one random bit of it is flipped, it is
read as a command reads it, and the bit is put back: refused, said on stderr, the same result, or another one without a
word. The same flips are read once more with the hashes switched off: what they are for.
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
from types import SimpleNamespace
from unittest import mock

import jax
import numpy as np
import runs
from flax.traverse_util import flatten_dict

from juliagpt_jax import main as training
from juliagpt_jax import parity as comparison
from juliagpt_jax import prepare, score
from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data import query, reading, selection
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.ground import config, config_file, files, sealed
from juliagpt_jax.ground.errors import CommandError, StorageError
from juliagpt_jax.inference import schedule
from juliagpt_jax.models.build import build_model
from juliagpt_jax.schoolroom import passages
from juliagpt_jax.store import checkpoint, export, gguf, offered, tensors
from juliagpt_jax.store.workdir import find, open_run
from juliagpt_jax.study import pace, parity, runner
from juliagpt_jax.training import metrics, start, state

TINY = ["model.width=32", "model.layers=2", "model.heads=2", "model.context=32", "train.steps=8", "train.warmup=2"]
TINY += ["train.checkpoint_every=4", "train.eval_every=4", "train.log_every=1", "train.eval_windows=4"]
TINY += ["train.final_windows=4", "train.sample_every=0", "train.batch_size=4"]


def run(command, *flags):
    """Run a command in this process, without its words."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        command.main(command.parser().parse(flags, command is training))


def begun(folder, *overrides):
    """Make a workdir with random weights; return it opened."""
    settings = config_file.load("configs/micro.py", [*TINY, *overrides])
    tokenizer = corpora.load(settings.data, settings.model.context).tokenizer
    shapes = jax.eval_shape(
        lambda: build_model(settings, tokenizer.vocab_size).init(jax.random.key(0), np.zeros((1, 2), int))["params"]
    )
    rng = np.random.default_rng(0)
    params = {
        path: rng.normal(0, 0.1, leaf.shape).astype(np.float32) for path, leaf in flatten_dict(shapes, sep="/").items()
    }
    start.begin(folder, settings, params, tokenizer, {}, "random weights")
    return open_run(folder)


def restored(workdir):
    """The state that training goes on from; a step that is set aside is put back."""
    settings = config.read(workdir / "config.json")
    model = build_model(settings, tokenizers.load(workdir / "tokenizer.json").vocab_size)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(lambda: state.initial_state(settings, model))
    target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), shapes)
    try:
        trees, _ = checkpoint.Checkpoints(workdir / "checkpoints", 9).restore(state.items(target))
        return trees
    finally:
        for aside in (workdir / "checkpoints").glob("*.corrupt"):
            aside.rename(aside.with_suffix(""))


def solving(workdir):
    run = open_run(find(workdir, averaged=True, kind="recursive"))
    return [flatten_dict(run.params, sep="/"), config.to_dict(run.config), run.step]


def opened(path, **which):
    run = open_run(path, **which)
    return [flatten_dict(run.params, sep="/"), config.to_dict(run.config), run.tokenizer.to_dict(), run.step]


def imported(path):
    given = export.read(path)
    return [given.params, given.fields, given.tokenizer.to_dict(), given.meta]


def reported(workdir):
    """What a suite takes from a finished run; what it cannot read is a cell that FAILED, with the reason."""
    try:
        return runner._result(SimpleNamespace(run=workdir, averaged=False))
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(str(error)) from error


def resumed(workdir):
    """The rows that a resume at step 4 goes on from."""
    whole = (workdir / "metrics.jsonl").read_bytes()
    metrics.Metrics(workdir, 4).close()
    left = (workdir / "metrics.jsonl").read_bytes()
    (workdir / "metrics.jsonl").write_bytes(whole)
    return left.decode()


def paced(path, *arm):
    """The pace of arms, as a suite knows it."""
    known = pace.Pace(path, 1, [])
    if arm:
        known._measure = lambda *_: 0.0123
        known(*arm)
    return known.known


def corpus_of(path):
    return corpora.load(config.Data(**{**vars(config_file.load("configs/micro.py").data), "path": str(path)}), 32)


def prepared(folder):
    text = corpus_of(folder)
    columns = [list(vars(c).items()) if hasattr(c, "__dict__") else c for c in text.train_chunks.columns.values()]
    return [np.asarray(text.train), np.asarray(text.val), columns, sorted(text.train_chunks.columns)]


def kinds(folder):
    """Yield (name, files, function that reads them): what is read is any nested value."""
    yield from corpora_of(folder)
    dense, ternary, ode = folder / "dense", folder / "ternary", folder / "ode"
    run(training, "--config=configs/micro.py", f"--workdir={dense}", *(f"--config.{o}" for o in TINY))
    trained = open_run(dense)
    export.pack(trained, "int8", folder / "int8.safetensors", "", "f16")
    yield "int8 export", [folder / "int8.safetensors"], lambda: opened(folder / "int8.safetensors")
    random = begun(ternary, "model.linear=ternary")
    for packing in ("2bit", "base3"):
        path = folder / f"{packing}.safetensors"
        export.pack(random, "ternary", path, packing, "f16")
        yield f"ternary export, {packing}", [path], lambda path=path: opened(path)
    export.export(trained, "safetensors", folder / "plain.safetensors", "f32", {})
    yield "safetensors export", [folder / "plain.safetensors"], lambda: imported(folder / "plain.safetensors")
    export.export(trained, "gguf", folder / "model.gguf", "f32", {})
    yield "GGUF export", [folder / "model.gguf"], lambda: imported(folder / "model.gguf")
    export.export(trained, "hf", folder / "hf", "f32", {})
    for name in ("model.safetensors", "config.json", "tokenizer.json", offered.SUMS):
        yield f"transformers export, {name}", [folder / "hf" / name], lambda: imported(folder / "hf")
    yield "config.json", [dense / "config.json"], lambda: opened(dense)
    yield "tokenizer.json", [dense / "tokenizer.json"], lambda: opened(dense)
    yield "run.json", [dense / "run.json"], lambda: reported(dense)
    yield "report.json", [dense / "report.json"], lambda: reported(dense)
    yield "metrics.jsonl, read", [dense / "metrics.jsonl"], lambda: reported(dense)
    yield "metrics.jsonl, resumed", [dense / "metrics.jsonl"], lambda: resumed(dense)
    newest = sorted(p for p in (dense / "checkpoints" / "8").rglob("*") if p.is_file())
    yield "checkpoint", newest, lambda: opened(dense, checkpoint="8")
    yield from states(folder)
    yield from tables(folder, dense)
    solver = [*TINY, "model.depth=ode", "model.layers=1", "model.ode.solver=midpoint"]
    run(training, "--config=configs/micro.py", f"--workdir={ode}", *(f"--config.{o}" for o in solver))
    solved = open_run(ode)
    adaptive = lambda: schedule.choose(solved, {"rtol": 0.01})[0].schedule
    adaptive()
    yield "schedules.json", [ode / "schedules.json"], adaptive


def states(folder):
    """Yield the kinds that training goes on from, and those of weights beside the last ones, as `kinds`."""
    mean, puzzles = folder / "mean", folder / "puzzles"
    more = ["train.ema=0.9", "train.optimizer=soap", "mesh.data=1"]
    run(training, "--config=configs/micro.py", f"--workdir={mean}", *(f"--config.{o}" for o in [*TINY, *more]))
    step = sorted(p for p in (mean / "checkpoints" / "8").rglob("*") if p.is_file())
    yield "checkpoint, resumed", step, lambda: restored(mean)
    average = [p for p in step if "averaged" in p.parts] + [mean / "checkpoints" / "8" / "manifest.json"]
    yield "checkpoint, averaged weights", average, lambda: opened(mean, checkpoint="8", averaged=True)
    flags = [f"--config.{o}" for o in [*runs.PUZZLES, "train.steps=6", "train.sample_every=0"]]
    run(training, "--config=configs/trm_sudoku6.py", f"--workdir={puzzles}", *flags)
    step = sorted(p for p in (puzzles / "checkpoints" / "6").rglob("*") if p.is_file())
    yield "checkpoint of a model that solves", step, lambda: solving(puzzles)


def corpora_of(folder):
    """Yield the kinds that texts become, as `kinds`."""
    (folder / "texts").mkdir()
    for side, rows in zip(("one", "two"), passages.corpus(), strict=True):
        (folder / "texts" / f"{side}.txt").write_text("\n".join(p.text for p in rows[:400]) + "\n")
    books, out = f"--source={folder / 'texts'}", folder / "prepared"
    run(prepare, books, f"--out={out}", "--min_quality=0", "--similarity=1", "--guard=0", "--leak_limit=1", "--jobs=1")
    for name in ("manifest.json", "train_enriched.jsonl", "train.txt"):
        yield f"prepared {name}", [out / name], lambda: prepared(out)
    prepared(out)
    for name in ("*.npy", "chunks.npz", "corpus.json"):
        cached = sorted((folder / "cache" / "corpora").rglob(name))
        yield f"cached corpora, {name.replace('*.npy', 'tokens')}", cached, lambda: prepared(out)
    prepared("schoolroom")
    yield "cached corpora, schoolroom.json", [folder / "cache" / "schoolroom.json"], lambda: prepared("schoolroom")


def tables(folder, run_of):
    """Yield the kinds that comparisons and scores keep, as `kinds`."""
    knobs = config.flatten(config.to_dict(open_run(run_of).config))
    rows = [{"arm": "a", "seed": seed, "config": knobs, "status": "done"} | reported(run_of) for seed in (1, 2)]
    sealed.write_rows(folder / "results.jsonl", rows)
    yield "a suite's results.jsonl", [folder / "results.jsonl"], lambda: runner.read(folder / "results.jsonl")
    paced(folder / "pace.json", "a", "configs/micro.py", [], knobs, knobs)
    yield "a suite's pace.json", [folder / "pace.json"], lambda: paced(folder / "pace.json")
    same = [{"what": "loss", "tensor": "loss", "difference": 1e-7, "tolerance": 1e-6, "agrees": True}]
    sealed.write_json(folder / "parity.json", {"recipe": "a mark", "same": same, "speed": {"eager": {"jax": [1.5]}}})
    yield "parity.json", [folder / "parity.json"], lambda: comparison._read(folder / "parity.json", "a mark")
    for seed in (1, 2):
        parity.Results(folder / "runs.jsonl", "a mark").add({"arm": "jax", "seed": seed, "loss": 1.5, "bpc": 2.25})
    runs = lambda: parity.Results(folder / "runs.jsonl", "a mark").rows
    yield "a comparison's runs.jsonl", [folder / "runs.jsonl"], runs
    sealed.write_json(folder / "weights.json", {"by": "phase", "weights": {"trivium": 0.4, "philosophy": 0.6}})
    weights = lambda: query.parse_weights(str(folder / "weights.json"), "phase")
    yield "DoReMi's weights.json", [folder / "weights.json"], weights
    run(score, f"--workdir={run_of}", f"--out={folder / 'scores.npz'}", "--what=loss")
    text = corpus_of("schoolroom")
    yield "scores.npz", [folder / "scores.npz"], lambda: selection._scores(folder / "scores.npz", text)


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
        for name, paths, read in kinds(Path(folder)):
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
