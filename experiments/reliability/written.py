"""Each kind of file that the project writes and reads back, made with a tiny model, and what reads one as a command
does.

A new kind is one `yield`.
"""

import contextlib
import io
from types import SimpleNamespace

import jax
import numpy as np
import runs
from flax.traverse_util import flatten_dict

from juliagpt_jax import export as exporting
from juliagpt_jax import main as training
from juliagpt_jax import parity as comparison
from juliagpt_jax import prepare, score, shard
from juliagpt_jax.books import trove
from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data import query, ranked, selection, shards, snapshots, streamed
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.evaluation import every
from juliagpt_jax.ground import config, config_file, files, sealed
from juliagpt_jax.ground.errors import StorageError
from juliagpt_jax.inference import schedule
from juliagpt_jax.models.build import build_model
from juliagpt_jax.objectives import preference, samples
from juliagpt_jax.schoolroom import passages
from juliagpt_jax.store import checkpoint, export, offered, peft
from juliagpt_jax.store.workdir import find, open_run
from juliagpt_jax.study import pace, parity, pipeline, runner
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
    run = open_run(find(path, **which))
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
    yield from adapters(folder, dense)
    yield from sharded(folder)
    yield from kept(folder, dense)
    yield from answering(folder)
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


def adapters(folder, base):
    """Yield the kinds that a run of adapters leaves, as `kinds`."""
    adapted, out = folder / "adapted", folder / "peft"
    own = [*TINY, f"train.init={base}", "adapter.rank=2", "adapter.base=q4_1"]
    run(training, "--config=configs/micro.py", f"--workdir={adapted}", *(f"--config.{o}" for o in own))
    step = lambda workdir: sorted(p for p in (workdir / "checkpoints" / "8").rglob("*") if p.is_file())
    yield "checkpoint of adapters", step(adapted), lambda: opened(adapted, checkpoint="8")
    yield "checkpoint below adapters", step(base), lambda: opened(adapted)
    run(exporting, f"--workdir={adapted}", "--format=peft", f"--out={out}")
    for name in (peft.WEIGHTS, peft.SETTINGS, offered.SUMS):
        yield f"peft export, {name}", [out / name], lambda: opened(base, adapter=str(out))


def sharded(folder):
    """Yield the kinds that a text larger than memory becomes, as `kinds`."""
    tokenizer = folder / "tokenizer.json"
    text = "".join((folder / "texts" / f"{side}.txt").read_text() for side in ("one", "two"))
    tokenizers.save(tokenizers.CharTokenizer.train(text), tokenizer)
    for name in ("one", "two"):
        made = [f"--source={folder / 'texts' / name}.txt", f"--tokenizer={tokenizer}", "--val_share=0.2"]
        run(shard, *made, f"--out={folder / name}", "--shard_tokens=20000")
    of = lambda path: config_file.load("configs/micro.py", [f"data.path={path}"]).data

    def read():
        found, index = streamed.read(of(folder / "one")), shards.open_index(folder / "one")
        ends = [[*shards.passages(index, own)] for side in shards.SIDES for own in index.sides[side]]
        return [np.asarray(found.train), found.val, ends, found.tokenizer.to_dict(), found.fingerprint, found.counts]

    for name in ("*.bin", "*.ends.npy", "*.checks.npy", shards.INDEX, "tokenizer.json"):
        yield f"shards, {name}", sorted((folder / "one").glob(name)), read
    snapshots.freeze(folder / "one", "MIT")
    frozen = sorted(path for path in (folder / "one").iterdir() if path.name != snapshots.FILE)
    verified = lambda: snapshots.verify(folder / "one", "--verify")[0]
    yield "snapshot, manifest.jsonl", [folder / "one" / snapshots.FILE], verified
    yield "snapshot, its files", frozen, verified
    (folder / "mixture.toml").write_text(runs.MIXTURE.replace("25", "5").replace("15", "3"))
    mixed = [f"data.path={folder / 'mixture.toml'}", "data.max_leak=1"]
    mixed += ["train.schedule=stages", "train.lr=1e-3", "train.min_lr=1e-4"]
    flags = (f"--config.{o}" for o in [*TINY, *mixed])
    run(training, "--config=configs/micro.py", f"--workdir={folder / 'mixed'}", *flags)
    found = open_run(folder / "mixed")

    def composed():
        drawn = found.corpus().on_disk
        return [[*drawn.mix.stages], drawn.sizes, drawn.fingerprint]

    yield "mixture.toml of a run", [folder / "mixture.toml"], composed
    yield from ranks(folder)


def ranks(folder):
    """Yield the kinds that a step of `scale` leaves for another, as `kinds`."""
    row = lambda text, i: SimpleNamespace(text=text, metadata={"file": 0, "index": i})
    for rank in range(2):
        lines = (folder / "texts" / "one.txt").read_text().splitlines()[rank * 50 : rank * 50 + 80]
        [*trove.Sign(str(folder / "signed"))((row(line, i) for i, line in enumerate(lines)), rank)]
    find_copies = trove.Find(str(folder / "signed"), str(folder / "same"), 2)

    def copies():
        find_copies()
        return [files.read_arrays(path) for path in sorted((folder / "same").iterdir())]

    yield "scale, hashes of documents", sorted((folder / "signed").iterdir()), copies
    copies()
    drop, numbered = trove.Drop(str(folder / "same"), str(folder / "dropped")), [row(str(i), i) for i in range(80)]
    left = lambda: [document.text for document in drop(numbered)]
    yield "scale, places of copies", [folder / "same" / "00000.npz"], left
    texts_of = [row(f"{line}\n", i) for i, line in enumerate(lines)]
    ranked.Shard(str(folder / "parts"), str(folder / "tokenizer.json"), 0.2, 10**6)(texts_of)
    index = ranked.Index(str(folder / "parts"), str(folder / "tokenizer.json"), 1, {})

    def indexed():
        index()
        return (folder / "parts" / shards.INDEX).read_text()

    yield "scale, token files of a rank", [folder / "parts" / "00000.json"], indexed


def again(found):
    """Return what a cache gives; where it gives nothing it would be made again, which is told as a refusal here."""
    if found is None:
        raise StorageError("to be made again")
    return found


def kept(folder, run_of):
    """Yield the kinds of what is measured once and kept, as `kinds`."""
    rng = np.random.default_rng(0)
    path, sizes = folder / "reference.npz", ((40, 2), (10, 2))
    preference._keep(path, *(rng.normal(-20, 5, size).astype(np.float32) for size in sizes))
    yield "what a reference says", [path], lambda: [*again(preference._kept(path, sizes))]
    written = {f"{side}/ids": rng.integers(0, 30, 400) for side in ("train", "dev")}
    written |= {f"{side}/sizes": np.full((40, 2), 5) for side in ("train", "dev")}
    written |= {f"{side}/right": rng.random(40) < 0.5 for side in ("train", "dev")}
    files.write_arrays(folder / "samples.npz", written)
    yield "answers that are marked", [folder / "samples.npz"], lambda: again(samples._kept(folder / "samples.npz"))
    measure = lambda step: ({"loss": 1.5 + step, "phases": {"trivium": 1.25}}, "")
    measured = lambda: every.run(run_of, measure, {"batch": 4, "windows": 8}, False, lambda line: None)
    rows = lambda: [{key: value for key, value in row.items() if key != sealed.KEY} for row in measured()]
    rows()
    yield "evaluations.jsonl", [run_of / every.ROWS], rows
    asked = SimpleNamespace(asked={"task": "sums"})
    one = SimpleNamespace(pipeline=asked, folder=folder, seed=1, _say=lambda line: None)
    answers = {"texts": [["5", "6"]], "right": [[1, 0]], "likelihood": [[-0.25, -1.5]], "flops": 9.5}
    answered = lambda make: pipeline.Measures._kept(one, "sft", {"writer": {"arm": "sft"}}, make)
    answered(lambda: answers)
    yield "a pipeline's measures", [folder / "sft-1.json"], lambda: answered(lambda: again(None))


def answering(folder):
    """Yield the kinds of a T5, as `kinds`."""
    own, out = folder / "t5", folder / "t5_hf"
    small = ["model.width=16", "model.layers=1", "model.heads=2", "train.steps=2", "train.warmup=1"]
    small += ["train.sample_every=0", "data.examples.written=4", "mesh.data=1"]
    run(training, "--config=configs/t5_tiny.py", f"--workdir={own}", *(f"--config.{o}" for o in small))
    export.export(open_run(find(own, kind="t5")), "hf", out, "f32", {})
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        yield f"T5 export, {name}", [out / name], lambda: imported(out)
