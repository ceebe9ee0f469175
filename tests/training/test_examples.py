"""Runs that learn from examples: packing changes no loss, what has no target changes nothing, and what begins with
another run, is killed and goes on ends with the same bits."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.data.examples import build, rows
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models import mixers
from juliagpt_jax.models.build import build_model
from juliagpt_jax.store import init
from juliagpt_jax.store.workdir import open_run
from juliagpt_jax.training import run
from juliagpt_jax.training.examples import ExampleTrainer
from juliagpt_jax.training.mesh import make_mesh
from juliagpt_jax.training.state import Frozen, initial_state
from juliagpt_jax.training.step import make_train_step

CHARS = CharTokenizer.train("0123456789+=\n")
FORM = rows.Form(CHARS, (CHARS.newline,))
SUMS = [FORM.encode(Example(f"{a}+{b}=", str(a + b))) for a in range(1, 40, 13) for b in (2, 30, 400)]
SMALL = ["model.width=16", "model.layers=2", "model.heads=2", "model.context=24"]


def mean_loss(model, batch):
    def loss(params):
        logits, *_ = model.apply({"params": params}, *batch.given)
        return jnp.sum(token_losses(logits, batch.targets)) / (batch.targets != IGNORED).sum()

    return jax.jit(jax.value_and_grad(loss))


@pytest.mark.parametrize(
    "flags",
    [
        ("model.mixer=attention topk", "model.sparse.top=3"),
        ("model.mixer=kda gated_deltanet", "model.kda.negative=true"),
        pytest.param(("model.layers=1", "model.positions=learned", "model.sink=logit"), marks=pytest.mark.long),
        pytest.param(("model.layers=1", "model.depth=ode", "model.channel=moe"), marks=pytest.mark.long),
    ],
    ids=["topk", "delta", "learned", "ode"],
)
def test_packing_changes_no_loss(tiny, flags):
    config = tiny(*SMALL, *flags)
    model = build_model(config, CHARS.vocab_size)
    mixers.check_packed(config.model, "pack")
    params = model.init(jax.random.key(3), jnp.zeros((1, 2), int))["params"]
    plain, packed = (rows.lay(SUMS, 24, pack) for pack in (False, True))
    assert len(packed) < len(plain) / 2
    each = lambda laid: laid.take(range(len(laid)))
    one, grads = mean_loss(model, each(plain))(params)
    other, packed_grads = mean_loss(model.clone(packed=True, parent=None), each(packed))(params)
    assert one == pytest.approx(float(other), rel=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(packed_grads), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    seen, _ = mean_loss(model, each(packed)._replace(positions=()))(params)
    assert abs(float(seen - one)) > 1e-4, "where they see each other the loss is another"


@pytest.mark.parametrize(
    "flags, says",
    [
        (("model.mixer=attention monarch",), "model.mixer=monarch carries on from one to the next"),
        (("model.mixer=monarch",), "model.mixer=monarch carries on"),
        (("model.mixer=blocksparse",), "model.mixer=blocksparse carries on"),
        (("model.mask=window",), "model.mask=window goes by the places"),
        (("model.sink=token",), "model.sink=token stands before the first alone"),
        (("model.channel=moe", "model.moe.capacity=1.5"), "they take places from each other"),
    ],
)
def test_models_that_cannot_pack_are_refused(tiny, flags, says):
    with pytest.raises(UserError, match=f"pack: the passages of a row see nothing of each other, and .*{says}"):
        mixers.check_packed(tiny(*flags).model, "pack")


def test_rows_without_a_target_change_nothing(tiny):
    """Neither beside others, nor when there are no others: nothing is divided by nothing."""
    config = tiny(*SMALL, "train.weight_decay=0", "train.warmup=0", "model.layers=1")
    model = build_model(config, CHARS.vocab_size)
    step = make_train_step(config, model, make_mesh(config))
    four = rows.lay(SUMS, 24, False).take(range(4))
    silent = Batch(four.inputs, np.full_like(four.targets, IGNORED))
    join = lambda *parts: Batch(
        *(np.concatenate(pair) for pair in zip(*((p.inputs, p.targets) for p in parts), strict=True))
    )
    state = initial_state(config, model)
    before = jax.device_get(state.params)
    after, metrics = step(state, silent, Frozen())
    assert metrics["loss"] == 0 and metrics["grad_norm"] == 0 and metrics["skipped"] == 0
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(after.params), before)
    learned = lambda batch: jax.device_get(step(initial_state(config, model), batch, Frozen())[0].params)
    ends = [learned(batch) for batch in (four, join(four, silent))]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *ends)


# Whole runs.

RUN = [
    *["data.task=addition", "model.width=16", "model.layers=1", "model.heads=1", "model.context=24"],
    *["train.steps=8", "train.batch_size=8", "train.warmup=2", "train.checkpoint_every=4", "train.eval_every=4"],
    *["train.sample_every=2", "train.log_every=1", "train.eval_windows=8", "train.keep=9", "mesh.data=1"],
    *["data.examples.written=6", "train.accumulate=2", "train.ema=0.9"],
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny):
    workdir = tmp_path_factory.mktemp("runs") / "base"
    return workdir, run.run(tiny(*RUN), workdir, 0.0)


def bits(state):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def final(workdir, config):
    config = init.settle(config, workdir)
    return ExampleTrainer(config, build.load(config), workdir, {}).state


@pytest.mark.long
@pytest.mark.parametrize("flags", [(), ("data.examples.pack=true", "train.optimizer=kfac")], ids=["plain", "packed"])
def test_a_run_begins_with_another_and_one_that_was_cut_ends_with_the_same_bits(whole, tiny, tmp_path, flags):
    base, _ = whole
    config = tiny(*RUN, f"train.init={base}", "data.task=addition_reversed", *flags)
    report = run.run(config, tmp_path / "whole", 0.0)
    first = ExampleTrainer(init.settle(config, tmp_path / "new"), build.load(config), tmp_path / "new", {})
    for a, b in zip(jax.tree.leaves(first.state.params), jax.tree.leaves(open_run(base).params), strict=True):
        np.testing.assert_array_equal(a, b)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut", symlinks=True)
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "8")
    (tmp_path / "cut" / "DONE").unlink()
    again = run.run(config, tmp_path / "cut", 0.0)
    assert bits(final(tmp_path / "whole", config)) == bits(final(tmp_path / "cut", config))
    rows_of = lambda name: [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    timed = lambda key: key.endswith("_s") or key == "mfu"
    plain = [[{k: v for k, v in row.items() if not timed(k)} for row in rows_of(name)] for name in ("whole", "cut")]
    assert plain[0] == plain[1] and (tmp_path / "whole" / "samples" / "2.txt").read_text().count("->") == 3
    for key in ("loss", "right", "answers", "answer_nats"):
        assert again[key] == report[key]


@pytest.mark.long
def test_the_report(whole, tiny, run_command):
    workdir, report = whole
    assert report["perplexity"] == pytest.approx(np.exp(report["loss"]))
    assert report["answer_nats"] == pytest.approx(report["loss"] * 5), "four digits, and the end"
    assert report["dev_examples"] == 500 and report["answered"] == 6 and report["scored_tokens"] == 2_500
    assert report["averaged"]["loss"] != report["loss"] and len(report["answers"]) == 4 and report["verified"]
    opened = open_run(workdir)
    found = build.load(opened.config)
    batch = found.dev_rows.take(range(500))
    logits = jax.jit(opened.model.apply)({"params": opened.params}, batch.inputs)[0]
    assert report["loss"] == pytest.approx(float(token_losses(logits, batch.targets).sum() / 2_500), rel=1e-4)
    done = run_command("evaluate", f"--workdir={workdir}")
    assert done.returncode == 2 and "this run learned from examples" in done.stderr


@pytest.mark.long
def test_runs_that_do_not_fit_are_refused(whole, tiny, tmp_path):
    base, _ = whole
    with pytest.raises(UserError, match=r"its model is another than this config's \(model.width: 16 -> 32\)"):
        init.settle(tiny(*RUN, f"train.init={base}", "model.width=32"), tmp_path)
    with pytest.raises(UserError, match="is not the workdir of a run"):
        init.settle(tiny(*RUN, f"train.init={tmp_path}"), tmp_path / "x")
    settled = init.settle(tiny(*RUN, f"train.init={base}", "model.context=16"), tmp_path)
    assert settled.data.tokenizer == str(base / "tokenizer.json")
    (tmp_path / "other.json").write_text((base / "tokenizer.json").read_text().replace("+", "*"))
    with pytest.raises(UserError, match="not the tokenizer of"):
        init.settle(tiny(*RUN, f"train.init={base}", f"data.tokenizer={tmp_path / 'other.json'}"), tmp_path)
