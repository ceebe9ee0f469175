"""A run that turns ternary on its way: what each step computes, and the commands on what it leaves behind."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from juliagpt_jax import evaluate, export, generate, import_model
from juliagpt_jax.data.batch import Batch
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models.build import at_step, build_model
from juliagpt_jax.store.workdir import open_run
from juliagpt_jax.training import metrics, step
from juliagpt_jax.training.mesh import batch_sharding, make_mesh, shardings
from juliagpt_jax.training.state import Frozen, initial_state

STEPS, TURN = 10, 5
WORDS = (
    *("model.linear=ternary", "train.ternary_from=0.5", f"train.steps={STEPS}", "train.warmup=2"),
    *("train.checkpoint_every=3", "train.keep=9", "train.eval_every=5", "train.sample_every=0"),
)


def call(module, *arguments, overrides=False):
    module.main(module.parser().parse([str(a) for a in arguments], overrides))


@pytest.mark.long
def test_dense_before_the_step_and_ternary_from_it_on(tiny):
    """Loss and gradient of either kind from the same state; on two devices and in micro-batches."""
    words = ("model.layers=1", "model.width=16", "train.accumulate=2", "mesh.data=2", "train.steps=8")
    settings = tiny(*words, "model.linear=ternary", "train.ternary_from=0.5")
    text = np.random.default_rng(0).integers(13, size=(4, 17), dtype=np.int32)
    batch = Batch(text[:, :-1], text[:, 1:])
    model, mesh = build_model(settings, 13), make_mesh(settings)
    run, make = step.make_train_step(settings, model, mesh), lambda: initial_state(settings, model)
    places = shardings(jax.eval_shape(make), mesh), batch_sharding(mesh)
    state = jax.device_get(jax.jit(make)())

    def loss_and_norm(model):
        loss = lambda p: jnp.mean(token_losses(model.apply({"params": p}, batch.inputs)[0], batch.targets))
        value, slope = jax.jit(jax.value_and_grad(loss))(state.params)
        return [float(value), float(optax.tree.norm(slope))]

    ternary, dense = loss_and_norm(model), loss_and_norm(at_step(settings, model, 0))
    assert np.abs(np.array(ternary) - dense).min() > 1e-4
    for at, wanted in [(0, dense), (3, dense), (4, ternary), (7, ternary)]:
        _, seen = run(*jax.device_put((state._replace(step=np.int32(at)), batch), places), Frozen())
        np.testing.assert_allclose([seen["loss"], seen["grad_norm"]], wanted, rtol=1e-4, err_msg=str(at))


def test_the_step_is_a_share(tiny):
    share = lambda steps, of: (
        tiny(f"train.steps={steps}", f"train.ternary_from={of}", "model.linear=ternary").ternary_step
    )
    assert [share(10, 0.0), share(10, 0.7), share(100, 0.29), share(10, 0.999)] == [0, 7, 29, 9]


@pytest.fixture(scope="module")
def turned(micro, tmp_path_factory):
    """The workdir of a run that turned ternary half-way; to be read only."""
    workdir = tmp_path_factory.mktemp("ternary") / "run"
    micro.train(workdir, *WORDS, timeout=400)
    return workdir


@pytest.mark.long
def test_checkpoints_open_as_what_they_were_trained_for(turned):
    linear = lambda checkpoint: open_run(turned, checkpoint).model.config.linear
    assert [linear(at) for at in ("3", "6", "newest", "best")] == ["subln", "ternary", "ternary", "ternary"]
    assert open_run(turned, "best").step > TURN
    rows = {row["step"]: row for row in metrics.read(turned / "metrics.jsonl") if "val_loss" in row}
    assert {3, 5, 6, 9, 10} <= set(rows)


@pytest.mark.long
def test_stopped_before_the_turn_it_ends_with_the_same_bits(turned, micro, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(turned, workdir, symlinks=True)
    for later in ("6", "9", "10"):
        shutil.rmtree(workdir / "checkpoints" / later)
    (workdir / "checkpoints" / "best").unlink()
    (workdir / "DONE").unlink()
    micro.train(workdir, *WORDS, timeout=400)
    ours, theirs = (flatten_dict(open_run(w).params, sep="/") for w in (workdir, turned))
    for path, leaf in theirs.items():
        np.testing.assert_array_equal(ours[path], leaf, err_msg=path)
    timed = ("tokens_per_s", "step_s", "mfu")
    rows = [
        [{k: v for k, v in row.items() if k not in timed} for row in metrics.read(w / "metrics.jsonl")]
        for w in (workdir, turned)
    ]
    assert rows[0] == rows[1] and len(rows[0]) > STEPS


@pytest.mark.long
def test_packed_by_the_commands(turned, tmp_path, capsys):
    """Exported, it writes and is measured from the one file."""
    scores = {}
    for packing in ("2bit", "base3"):
        path = tmp_path / f"{packing}.safetensors"
        call(
            export,
            f"--workdir={turned}",
            "--format=ternary",
            f"--packing={packing}",
            "--embedding=f32",
            f"--out={path}",
        )
        assert (
            f"step {STEPS} of {turned}, ternary, {packing}, f32, {path.stat().st_size:,} bytes"
            in capsys.readouterr().out
        )
        call(generate, f"--workdir={path}", "--prompt=the nature", "--greedy", "--max_new_tokens=5", "--json")
        scores[packing] = [json.loads(capsys.readouterr().out.splitlines()[-1])["samples"][0]["text"]]
    call(generate, f"--workdir={turned}", "--prompt=the nature", "--greedy", "--max_new_tokens=5", "--json")
    own = json.loads(capsys.readouterr().out.splitlines()[-1])["samples"][0]["text"]
    assert scores == {"2bit": [own], "base3": [own]}
    measured = []
    for workdir, precision in [(turned, "ternary"), (path, "ternary"), (path, "f32")]:
        call(evaluate, f"--workdir={workdir}", f"--precision={precision}", "--json")
        measured.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert measured[0]["loss"] == measured[1]["loss"] == measured[2]["loss"]
    assert measured[1]["params"] == measured[0]["params"] and measured[1]["params_bytes"] == path.stat().st_size
    for module, flag in [(evaluate, "--checkpoint=3"), (generate, "--averaged")]:
        with pytest.raises(UserError, match="holds one model"):
            call(module, f"--workdir={path}", flag)


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--format=hf", "--packing=base3"], "--packing=base3: not of --format=hf"),
        (["--format=int8", "--packing=base3"], "--packing=base3: not of --format=int8"),
        (["--format=ternary", "--precision=f16"], "--precision=f16: not of --format=ternary"),
        (["--format=gguf", "--embedding=int8"], "--embedding=int8: not of --format=gguf"),
        (["--format=int8"], "weights of this model are ternary"),
        (["--format=ternary", "--checkpoint=3"], "was trained with model.linear=subln"),
        (["--format=hf"], "model.linear=ternary is not in its llama"),
    ],
    ids=" ".join,
)
def test_mistakes(flags, says, turned, tmp_path):
    with pytest.raises(UserError) as error:
        call(export, f"--workdir={turned}", f"--out={tmp_path / 'out'}", *flags)
    assert says in str(error.value) and list(tmp_path.iterdir()) == []


def test_a_subln_model_goes_on_as_a_ternary_one(turned, micro, tmp_path):
    """The weights of before the turn, out and in again; nothing else may take their place."""
    call(export, f"--workdir={turned}", "--checkpoint=3", "--format=safetensors", f"--out={tmp_path / 'weights'}")
    bring = lambda linear, name: call(
        import_model,
        *(f"--source={tmp_path / 'weights'}", f"--workdir={tmp_path / name}", "--config=configs/tiny.py"),
        *(f"--config.data.path={micro.text}", f"--config.model.linear={linear}"),
        overrides=True,
    )
    bring("ternary", "again")
    again, before = open_run(tmp_path / "again"), open_run(turned, "3")
    assert again.model.config.linear == "ternary" and again.step == 0
    for path, leaf in flatten_dict(before.params, sep="/").items():
        np.testing.assert_array_equal(flatten_dict(again.params, sep="/")[path], leaf)
    assert config.read(tmp_path / "again" / "config.json").model.linear == "ternary"
    with pytest.raises(UserError, match=r"model.linear=dense: the model is the source's, with model.linear=subln"):
        bring("dense", "not")
