"""Runs that begin with another run's weights: all of them trained, or adapters beside them alone."""

import json
import shutil
import signal

import jax
import numpy as np
import pytest

from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data import tokenizer
from juliagpt_jax.ground import config_file
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.opened import lend, open_model
from juliagpt_jax.models import adapters, frozen
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.store.claim import write_config
from juliagpt_jax.store.manifest import read_meta
from juliagpt_jax.store.workdir import find, load_adapters, open_run
from juliagpt_jax.training import optimizers, run, start
from juliagpt_jax.training.loop import Trainer
from juliagpt_jax.training.state import initial_state, items

LORA = ["adapter.rank=2", "adapter.dropout=0.1", "adapter.base=nf4", "train.steps=12", "train.checkpoint_every=4"]
LORA += ["train.eval_every=4", "train.sample_every=0", "train.accumulate=1", "mesh.data=1", "train.lr=0.01"]
CLOCKS = ("tokens_per_s", "step_s", "mfu")
DIE = """
import os, signal
from juliagpt_jax.training import loop
batch, calls = loop.Trainer.batch, []
def dying(self, step):
    if step == 7:
        self.checkpoints.wait()
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(self, step)
loop.Trainer.batch = dying
"""


def rows(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCKS} for row in lines]


def bits(tree):
    return {path: np.asarray(leaf).tobytes() for path, leaf in paths(tree).items()}


@pytest.fixture(scope="module")
def lora(micro, clean):
    """The workdir of adapters that were trained in one go beside the weights of `clean`."""
    workdir = micro.folder / "lora"
    if not workdir.exists():
        micro.train(workdir, f"train.init={clean}", *LORA)
    return workdir


def test_adapters_stay_with_the_weights_that_they_were_trained_beside(tiny, tmp_path):
    """With one number of the base another in its last bits, a run goes no further, is not opened, and is not laid on
    it, neither folded in nor beside."""
    text, base, workdir = (tmp_path / name for name in ("text.txt", "base", "lora"))
    text.write_text("what lies below is known by its hash\n" * 40)
    small = ["model.width=8", "model.layers=1", "model.heads=1", "model.context=8", f"data.path={text}"]
    below, settings = tiny(*small), tiny(*small, f"train.init={base}", "adapter.rank=2")
    corpus = corpora.load(below.data, below.model.context)
    model = build_model(below, corpus.tokenizer.vocab_size)
    params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 2), int))["params"]
    weights = {path: np.array(leaf) for path, leaf in paths(params).items()}

    def is_there():
        shutil.rmtree(base, ignore_errors=True)
        start.begin(base, below, weights, corpus.tokenizer, {}, "nowhere")

    is_there()
    first = Trainer(settings, corpus, workdir, {})
    write_config(workdir, settings)
    tokenizer.save(corpus.tokenizer, workdir / "tokenizer.json")
    first.checkpoints.save(1, items(first.state), first.meta | {"val_loss": None})
    assert first.checkpoints.wait()
    ways = [
        lambda: Trainer(settings, corpus, workdir, {}),
        lambda: open_run(find(workdir)),
        lambda: open_run(find(base, adapter=str(workdir))),
        lambda: lend(open_model(find(base)), {"lora": workdir}),
    ]
    for way in ways:
        way()
    weights["norm/scale"][3] = np.nextafter(weights["norm/scale"][3], np.float32(2))
    is_there()
    for way in ways:
        with pytest.raises(UserError, match="its adapters were trained beside other weights than those of"):
            way()


@pytest.mark.long
def test_a_killed_run_of_adapters_loses_no_bit(micro, clean, lora, tmp_path):
    """Beside NF4 kernels and with dropout; and its checkpoints hold what is trained and nothing else."""
    wanted = f"train.init={clean}"
    micro.train(tmp_path / "w", wanted, *LORA, code=-signal.SIGKILL, before=DIE)
    assert {path.name for path in (tmp_path / "w" / "checkpoints").glob("[0-9]*")} == {"4"}
    micro.train(tmp_path / "w", wanted, *LORA)
    assert rows(tmp_path / "w") == rows(lora)
    found, other = find(tmp_path / "w"), find(lora)
    assert bits(load_adapters(found)[0]) == bits(load_adapters(other)[0])
    tree = read_meta(lora / "checkpoints" / "12")["tree"]
    trained = {path.removeprefix("params/") for path in tree if path.startswith("params/")}
    assert len(trained) == 7 * 2 and all("/lora/" in path for path in trained)
    assert {path.rpartition("/lora/")[0] != "" for path in tree if path.count("/") > 3} == {True}


@pytest.mark.long
def test_a_run_of_adapters_is_a_model(clean, lora):
    """It opens as its base, as it was kept, with the adapters folded in; so does the base with --adapter; and a server
    takes them row by row."""
    below, own = open_run(find(clean)), open_model(find(lora))
    assert own.run.config.adapter.rank == 0 and paths(own.params).keys() == paths(below.params).keys()
    tokens = np.arange(12).reshape(1, 12) % 7
    apply = jax.jit(lambda model, params: model.apply({"params": params}, tokens)[0], static_argnums=0)
    wanted = apply(own.model, own.params)
    settings = find(lora).config
    given, meta, _ = load_adapters(find(lora))
    assert meta["base"] == adapters.digest(below.params)
    assert max(np.abs(leaf).max() for path, leaf in paths(given).items() if path.endswith("/b")) > 1e-3
    factored = adapters.merge(given, frozen.freeze(below.params, "nf4"))
    model = build_model(settings, own.tokenizer.vocab_size)
    np.testing.assert_allclose(apply(model, factored), wanted, atol=1e-5 * np.abs(wanted).max())
    laid = open_model(find(clean, adapter=str(lora)))
    np.testing.assert_array_equal(apply(laid.model, laid.params), wanted)
    lent, stacked = lend(open_model(find(clean)), {"lora": lora})
    one = adapters.merge(jax.tree.map(lambda leaf: leaf[1], stacked), lent.params)
    np.testing.assert_allclose(apply(lent.model, one), wanted, atol=1e-5 * np.abs(wanted).max())
    with pytest.raises(UserError, match=r"has no adapters: it is neither the workdir of a run"):
        open_run(find(clean, adapter=str(clean)))


@pytest.mark.long
def test_seeds_together_share_their_frozen_weights(micro, clean, tmp_path):
    """Each is what it is alone."""
    flags = [flag.removeprefix("--config.") for flag in micro.flags]

    def settings(seed):
        flat = [*flags, *LORA, f"train.init={clean}", "train.steps=4", "train.warmup=2", f"seed={seed}"]
        return config_file.load("configs/tiny.py", flat)

    run.run_together({tmp_path / str(seed): settings(seed) for seed in (3, 4)}, 0.0)
    run.run(settings(4), tmp_path / "solo", 0.0)
    both = [load_adapters(find(tmp_path / name))[0] for name in ("4", "solo")]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), *both)
    assert bits(load_adapters(find(tmp_path / "3"))[0]) != bits(both[0])


@pytest.mark.long
def test_all_weights_of_another_run_are_trained(micro, clean, tmp_path, says):
    """The first loss is that of the other's weights; the run goes on without them; other models are refused."""
    shutil.copytree(clean, tmp_path / "base", symlinks=True)
    wanted = ["train.steps=4", "train.warmup=2", "train.checkpoint_every=2", f"train.init={tmp_path / 'base'}"]
    micro.train(tmp_path / "w", *wanted, "train.lr=1e-9", "train.min_lr=0")
    theirs, ours = (bits(jax.tree.map(lambda x: np.round(x, 4), open_run(w).params)) for w in (clean, tmp_path / "w"))
    assert theirs == ours
    shutil.rmtree(tmp_path / "base")
    (tmp_path / "w" / "DONE").unlink()
    shutil.rmtree(tmp_path / "w" / "checkpoints" / "4")
    micro.train(tmp_path / "w", *wanted, "train.lr=1e-9", "train.min_lr=0")
    other = micro.train(tmp_path / "x", f"train.init={clean}", "model.layers=2", code=2)
    says(other, "its model is another than this config's (model.layers: 1 -> 2)")
    missing = micro.train(tmp_path / "x", f"train.init={tmp_path / 'nowhere'}", code=2)
    says(missing, "nowhere")


@pytest.mark.parametrize("name", ["adamw", "adam_atan2", "muon", "soap"])
def test_every_rule_takes_adapters(name, tiny):
    settings = tiny("adapter.rank=2", "train.init=base", f"train.optimizer={name}")
    state = jax.eval_shape(lambda: initial_state(settings, build_model(settings, 11)))
    assert {*optimizers.rules(settings.train, state.params).values()} == {name}
    kept = {path for path in paths(state.opt_state) if "kernel" in path or "embedding" in path}
    assert not kept and len(paths(state.params)) == 2 * 7 * 2


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["adapter.rank=2"], r"config\.adapter\.rank: adapters lie beside weights that are there: train\.init"),
        (["adapter.base=nf4"], r"config\.adapter\.base: nf4 kernels are frozen, and without adapters"),
        (["adapter.base=nf3"], r"config\.adapter\.base: must be one of float, int8, nf4, q4_1"),
        (["adapter.rank=2", "model.linear=monarch"], r"not beside those of model\.linear=monarch"),
        (["adapter.rank=2", "model.linear=ternary"], r"not beside those of model\.linear=ternary"),
        (["adapter.rank=2", "train.optimizer=kfac"], r"train\.optimizer: kfac .* adamw, adam_atan2, muon and soap"),
        (["adapter.rank=2", "train.objective=doremi"], r"train\.objective: doremi weighs domains"),
        (["adapter.rank=2", "model.depth=ode", "model.ode.time=lowrank"], r"model\.ode\.time=lowrank changes each"),
        (["adapter.rank=2", "adapter.dropout=0.1", "model.channel=moe"], r"adapter\.dropout: experts are computed"),
    ],
)
def test_what_does_not_go_together(flags, says, tiny):
    init = [] if flags == ["adapter.rank=2"] else ["train.init=base"]
    with pytest.raises(UserError, match=says):
        tiny(*init, *flags)
