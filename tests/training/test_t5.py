"""A T5 learns from examples: its rows, a step on one device and on several, whole runs; and what it is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax import evaluate, generate
from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.data.examples import pairs
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.evaluation import cost
from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.scoring import losses_of, mean_loss
from juliagpt_jax.models.build import build_model
from juliagpt_jax.store.workdir import find, open_run
from juliagpt_jax.training import run
from juliagpt_jax.training.mesh import make_mesh
from juliagpt_jax.training.state import Frozen, initial_state
from juliagpt_jax.training.step import make_train_step

CHARS = CharTokenizer.train("0123456789+=\n")
FORM = pairs.form(CHARS, "error")
SUMS = [FORM.encode(Example(f"{a}+{b}=", str(a + b))) for a, b in [(1, 2), (30, 400), (5, 6), (700, 80)]]
OWN = ["model.kind=t5", "model.positions=none", "model.width=16", "model.layers=1", "model.heads=2", "model.context=24"]
OWN += ["data.task=addition_reversed", "model.tie=false"]


def test_the_rows():
    """A prompt and its end, ABSENT behind it; an answer behind START, its end as the last target."""
    laid = pairs.pair(SUMS)
    assert (laid.source_length, laid.length, len(laid)) == (8, 16, 4)
    batch = laid.take([3, 0])
    ids = lambda text: CHARS.encode(text).tolist()
    assert batch.inputs["source"].tolist() == [[*ids("700+80=\n")], [*ids("1+2=\n"), -1, -1, -1]]
    assert batch.inputs["tokens"].tolist() == [[0, *ids("780"), 0, 0, 0, 0], [0, *ids("3"), 0, 0, 0, 0, 0, 0]]
    assert batch.targets.tolist() == [[*ids("780\n"), *[IGNORED] * 4], [*ids("3\n"), *[IGNORED] * 6]]
    with pytest.raises(UserError, match=r"holds no conversation"):
        FORM.encode(Example("a", "1", facts={"messages": [{"role": "user", "content": "1"}]}))
    with pytest.raises(UserError, match=r"an answer holds what ends an answer"):
        FORM.encode(Example("1+1=", "2\n3"))


def test_a_step_alone_in_parts_and_on_two_devices(tiny):
    """The same parameters, whose loss is that of the rows scored one by one; what is counted are FLOPs."""
    batch, ends = pairs.pair(SUMS).take(range(4)), []
    for more in (["train.accumulate=1"], ["train.accumulate=2", "mesh.data=2"], ["mesh.model=2"]):
        config = tiny(*OWN, *more, "train.weight_decay=0", "train.warmup=0")
        run.check(config)
        model = build_model(config, CHARS.vocab_size)
        step = make_train_step(config, model, make_mesh(config))
        state = jax.jit(lambda config=config, model=model: initial_state(config, model))()
        before = jax.device_get(state.params)
        state, metrics = step(state, batch, Frozen())
        ends.append((jax.device_get(state.params), float(metrics["loss"]), float(metrics["grad_norm"])))
    for params, loss, norm in ends[1:]:
        assert (loss, norm) == pytest.approx(ends[0][1:], rel=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), params, ends[0][0])
    losses = losses_of(model, before, batch.inputs, batch.targets, 3)
    assert mean_loss(losses, batch.targets) == pytest.approx(ends[0][1], rel=1e-5)

    wide = tiny(*OWN, "model.width=64", "model.layers=2").model
    model = build_model(tiny(*OWN, "model.width=64", "model.layers=2"), 50)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), int))["params"])
    given = {"source": jnp.zeros((8, 32), int), "tokens": jnp.zeros((8, 16), int)}
    loss = lambda params: jnp.sum(model.apply({"params": params}, given)[0])
    counted = cost.compiled_flops(jax.jit(jax.grad(loss)).lower(params).compile())
    assert counted == pytest.approx(8 * cost.train_flops_per_pair(wide, params, 50, 32, 16), rel=0.1)


@pytest.mark.parametrize(
    "flags, says",
    [
        (["train.objective=distil"], "train.objective: distil is of models of one text; a T5 reads a prompt"),
        (["train.optimizer=kfac"], "train.optimizer: kfac has one text a row"),
        (["train.precision=f16"], "train.precision: f16: the activations of a T5 overflow it"),
        (["train.remat=true"], "train.remat: a T5 keeps all activations"),
        (["train.ngram.weight=1"], "train.ngram.weight: n-grams are of one text"),
        (["data.examples.pack=true"], "data.examples.pack: .*there is one a row"),
        (["data.examples.chat=true"], "data.examples.chat: .*holds no conversation"),
    ],
)
def test_what_a_t5_is_not_trained_with(flags, says, tiny):
    with pytest.raises(UserError, match=says):
        tiny(*OWN, *flags)


def test_a_t5_without_examples_or_cut_over_devices(tiny, tmp_path):
    with pytest.raises(UserError, match=r"config.mesh.fsdp: a T5 keeps its parameters whole"):
        make_mesh(tiny(*OWN, "mesh.fsdp=2"))
    with pytest.raises(UserError, match=r"config.data.task: none; a T5 learns from examples"):
        run.run(tiny(*OWN, "data.task=none"), tmp_path / "run", 0.0)


# Whole runs.

RUN = [*OWN, "train.steps=6", "train.batch_size=8", "train.warmup=2", "train.checkpoint_every=3", "train.eval_every=3"]
RUN += ["train.eval_windows=8", "train.keep=9", "mesh.data=1", "data.examples.written=4", "train.sample_every=0"]
RUN += ["train.log_every=1", "model.dropout=0.1"]


@pytest.mark.long
def test_a_run_goes_on_writes_and_is_measured(tiny, tmp_path, capsys):
    """To the bit where it stopped; `generate` answers as the report does; each checkpoint is measured once."""
    report = run.run(tiny(*RUN), tmp_path / "whole", 0.0)
    run.run(tiny(*RUN), tmp_path / "half", 0.0)
    for name in ("DONE", "report.json"):
        (tmp_path / "half" / name).unlink()
    for old in ("6", "best"):
        path = tmp_path / "half" / "checkpoints" / old
        path.unlink() if path.is_symlink() else path.rename(path.with_name("6.partial"))
    run.run(tiny(*RUN), tmp_path / "half", 0.0)
    ends = [open_run(find(tmp_path / name, kind="t5")) for name in ("whole", "half")]
    jax.tree.map(np.testing.assert_array_equal, ends[0].params, ends[1].params)
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "half")]
    told = [
        [{k: v for k, v in json.loads(line).items() if k in ("step", "loss", "val_loss")} for line in own]
        for own in lines
    ]
    assert told[0] == told[1]
    evaluate.main(evaluate.parser().parse([f"--workdir={tmp_path / 'whole'}", "--every"]))
    measured = sealed.read_rows(tmp_path / "whole" / "evaluations.jsonl")
    assert [row["step"] for row in measured] == [3, 6]
    for name in ("loss", "right", "answered", "scored_tokens"):
        assert measured[-1][name] == pytest.approx(report[name], abs=1e-6)
    seeds = {tmp_path / name: tiny(*RUN, f"seed={seed}") for name, seed in [("one", 42), ("two", 7)]}
    both = run.run_together(seeds, 0.0)
    assert both[tmp_path / "one"]["loss"] == pytest.approx(report["loss"], abs=1e-4)
    assert abs(both[tmp_path / "two"]["loss"] - report["loss"]) > 1e-4
    first = report["answers"][0]
    capsys.readouterr()
    flags = [f"--workdir={tmp_path / 'whole'}", f"--prompt={first['prompt']}", "--greedy", "--max_new_tokens=13"]
    generate.main(generate.parser().parse(flags))
    assert capsys.readouterr().out.rstrip("\n") == first["written"].rstrip("\n")


@pytest.mark.slow
def test_the_config_learns_to_add(tmp_path):
    """`configs/t5_tiny.py` as it is."""
    from juliagpt_jax.ground import config_file

    report = run.run(config_file.load("configs/t5_tiny.py", []), tmp_path / "run", 0.0)
    assert report["right"] > 0.9
