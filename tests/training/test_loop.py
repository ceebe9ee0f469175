"""The batch of a step is the same wherever the text lies, and a run is however many steps a call makes."""

import functools
import json
import os
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data import sampler
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.training.loop import Trainer
from juliagpt_jax.training.mesh import batch_sharding, make_mesh
from juliagpt_jax.training.metrics import TIMING


@pytest.mark.parametrize("windows", ["ring", "documents", "fixed"])
def test_batches_on_the_device_and_from_the_host(tiny, windows):
    lengths = np.random.default_rng(0).integers(1, 40, size=30)
    tokens = np.random.default_rng(1).integers(200, size=lengths.sum()).astype(np.uint16)
    plan = sampler.Plan(len(tokens), 16, 4, 3, **sampler.cut(windows, lengths))
    made, mesh = [], make_mesh(tiny())
    for own in (None, jnp.asarray(tokens)):
        trainer = SimpleNamespace(
            plan=plan,
            chosen=SimpleNamespace(tokens=tokens),
            objective=SimpleNamespace(extra=lambda drawn: np.asarray(drawn.lengths)),
            mesh=mesh,
            _batch_place=batch_sharding(mesh),
            _tokens=own,
        )
        trainer._gathered = functools.partial(Trainer._gathered, trainer)
        trainer._ahead = functools.partial(Trainer._read, trainer)
        made.append([Trainer.batch(trainer, step) for step in (0, 9, 40)])
        several = Trainer.batches(trainer, 8, 3)
        for mine, whole in zip(jax.tree.leaves(made[-1][1]), jax.tree.leaves(several), strict=True):
            np.testing.assert_array_equal(mine, whole[1])
    for host, device in zip(*made, strict=True):
        for one, other in [(host.inputs, device.inputs), (host.targets, device.targets), (host.extra, device.extra)]:
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
    orders = {tuple(np.asarray(batch.inputs).ravel()) for batch in made[0]}
    assert len(orders) == 3


@pytest.mark.long
def test_a_run_of_several_steps_a_call(micro, tmp_path):
    """Four steps a call, one at a time where something is due before: the same rows, checkpoints and samples as one
    step a call, and a run goes on from the one to the other."""
    some = ["train.eval_every=12", "train.checkpoint_every=12", "train.sample_every=24", "train.steps=30"]
    micro.train(tmp_path / "one", *some)
    micro.train(tmp_path / "four", *some, "train.steps_per_call=4")
    shutil.copytree(tmp_path / "one", tmp_path / "cut", symlinks=True)
    for step in (24, 30):
        shutil.rmtree(tmp_path / "cut" / "checkpoints" / str(step))
    (tmp_path / "cut" / "DONE").unlink()
    micro.train(tmp_path / "cut", *some, "train.steps_per_call=4")
    read = lambda name: [
        {key: value for key, value in json.loads(line).items() if key not in TIMING}
        for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
    ]
    one = read("one")
    assert len(one) == 33
    for other in map(read, ("four", "cut")):
        for mine, theirs in zip(one, other, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-5)
    for name in ("four", "cut"):
        assert sorted(os.listdir(tmp_path / name / "checkpoints")) == ["12", "24", "30", "best"]
        assert (tmp_path / name / "samples" / "24.txt").exists()
    lines = (tmp_path / "four" / "metrics.jsonl").read_text().splitlines()
    speeds = [json.loads(line).get("step_s", 1) for line in lines]
    assert min(speeds) > 1e-5, "the steps of a call share its time"


def test_a_call_ends_where_something_is_due(tiny):
    for knob in ("eval_every=6", "checkpoint_every=10", "sample_every=3"):
        others = [f"train.{name}=8" for name in ("eval_every", "checkpoint_every", "sample_every")]
        with pytest.raises(UserError, match=r"steps_per_call: 4 does not divide train\."):
            tiny("train.steps_per_call=4", *others, f"train.{knob}")
