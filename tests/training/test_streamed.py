"""Training on a mixture of shards: it goes on over the edge of a stage to the bit, and its rates are the stages'."""

import functools
import json
import random
import shutil
import time

import jax
import numpy as np
import pytest

from juliagpt_jax.data import corpus, sampler, selection, sharding
from juliagpt_jax.data.prefetch import Prefetch
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground import config_file
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.store.workdir import open_run
from juliagpt_jax.training import loop, run, schedules

STAGES = """
[[stages]]
steps = 8
lr = 4e-3
weights = {one = 80, other = 20}
[[stages]]
steps = 4
lr = 2e-3
min_lr = 1e-3
weights = {one = 10, other = 90}
"""


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streamed")
    for name, letters in (("one", "abc"), ("other", "xyz")):
        rng = random.Random(name)
        (folder / f"{name}.txt").write_text("".join("".join(rng.choices(letters, k=30)) + "\n" for _ in range(200)))
        sharding.make(str(folder / f"{name}.txt"), CharTokenizer.train("abcxyz\n"), folder / name, 0.1, most=2_000)
    (folder / "mixture.toml").write_text('[sources]\none = "one"\nother = "other"\n' + STAGES)
    return folder / "mixture.toml"


@pytest.fixture(scope="module")
def settings(micro, mixture):
    def make(*overrides):
        flags = [flag.removeprefix("--config.") for flag in micro.flags if "data.path" not in flag]
        some = [f"data.path={mixture}", "train.steps=12", "train.checkpoint_every=3", "train.eval_every=12"]
        some += ["train.sample_every=0", "train.final_windows=2", "train.keep=9", "train.accumulate=1", "mesh.data=1"]
        some += ["train.warmup=2", "train.schedule=stages", "train.lr=4e-3", "train.min_lr=0", "train.log_every=1"]
        return config_file.load("configs/tiny.py", [*flags, *some, "data.weights_by=source", *overrides])

    return make


def weights(workdir):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(jax.device_get(open_run(workdir, "newest").params))]


def rows(workdir):
    """What was logged, but for times."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if k in ("step", "loss", "lr", "val_loss")} for row in lines]


@pytest.mark.parametrize("done", [True, False])
def test_the_share_of_time_that_devices_wait_for_data(done, settings, tmp_path, monkeypatch):
    """It is what a slow disk costs where the step before is done, and nothing where that is still at work."""
    monkeypatch.setattr(loop, "DEVICE_TOKENS", 0)
    read = sampler.batch

    def slow(*given):
        time.sleep(0.3)
        return read(*given)

    monkeypatch.setattr(sampler, "batch", slow)
    monkeypatch.setattr(loop, "Prefetch", functools.partial(loop.Prefetch, ahead=0))  # so no batch is there already
    monkeypatch.setattr(type(jax.numpy.zeros(())), "is_ready", lambda self: done)
    share = run.run(settings(), tmp_path / "run", 0.0)["data_wait_share"]
    assert 0.01 < share < 1 if done else share == 0


@pytest.mark.long
def test_a_run_that_was_cut_before_the_edge_of_a_stage(settings, tmp_path, monkeypatch):
    """From the disk, ahead of the step and in threads; then from the device. All end with the same bits."""
    own = settings()
    monkeypatch.setattr(loop, "DEVICE_TOKENS", 0)
    report = run.run(own, tmp_path / "whole", 0.0)
    assert 0 <= report["data_wait_share"] < 1
    shutil.copytree(tmp_path / "whole", tmp_path / "cut", symlinks=True)
    for step in (9, 12):
        shutil.rmtree(tmp_path / "cut" / "checkpoints" / str(step))
    (tmp_path / "cut" / "DONE").unlink()
    run.run(own, tmp_path / "cut", 0.0)
    monkeypatch.setattr(loop, "DEVICE_TOKENS", 2**30)
    run.run(own, tmp_path / "device", 0.0)
    for other in ("cut", "device"):
        assert weights(tmp_path / other) == weights(tmp_path / "whole")
        assert rows(tmp_path / other) == rows(tmp_path / "whole")
    rates = [row["lr"] for row in rows(tmp_path / "whole") if "lr" in row]
    wanted = [2e-3, 3e-3] + [4e-3] * 6 + [2e-3, 1.75e-3, 1.5e-3, 1.25e-3]
    np.testing.assert_allclose(rates, wanted, rtol=1e-6)
    file = open_run(tmp_path / "whole", "newest").config.data.path
    with open(file) as text:
        whole = text.read()
    try:
        with open(file, "w") as text:
            text.write(whole.replace("80", "70").replace("20}", "30}"))
        (tmp_path / "cut" / "DONE").unlink()
        with pytest.raises(UserError, match="the training data is not what it was"):
            run.run(own, tmp_path / "cut", 0.0)
    finally:
        with open(file, "w") as text:
            text.write(whole)


def test_stages_and_schedule_agree_or_are_refused(settings, tiny):
    own = settings()
    chosen = selection.select(corpus.load(own.data, 16), own.data, 0, 16)
    rate = schedules.learning_rate(schedules.settled(own, 1.0, chosen.stages))
    np.testing.assert_allclose(jax.vmap(rate)(np.array([0, 1, 7, 8, 11])), [2e-3, 3e-3, 4e-3, 2e-3, 1.25e-3], rtol=1e-6)
    with pytest.raises(UserError, match=r"train.schedule: the mixture's stages have learning rates"):
        schedules.settled(settings("train.schedule=cosine"), 1.0, chosen.stages)
    with pytest.raises(UserError, match=r"train.lr: 0.005, and the highest rate of the stages is 0.004"):
        schedules.settled(settings("train.lr=5e-3"), 1.0, chosen.stages)
    plain = lambda text: tiny("train.schedule=stages", "train.lr=1e-3", "train.min_lr=0", f"train.stages={text}")
    with pytest.raises(UserError, match=r"train.stages: '9:2>3' is no stage"):
        schedules.settled(plain("11:1e-3 9:2>3"), 1.0)
    with pytest.raises(UserError, match=r"train.stages: 19 steps in all, and train.steps=20"):
        schedules.settled(plain("10:1e-3 9:1e-3"), 1.0)
    rate = schedules.learning_rate(schedules.settled(plain("10:1e-3 10:1e-3>0"), 1.0))
    np.testing.assert_allclose(jax.vmap(rate)(np.array([0, 5, 10, 15])), [5e-4, 1e-3, 1e-3, 5e-4], rtol=1e-6)


def test_batches_ahead_are_those_of_their_steps_and_raise_in_their_step():
    def make(step):
        if step == 7:
            raise StorageError("block 7")
        return step * step

    ahead = Prefetch(make)
    assert [ahead(step) for step in (0, 1, 2, 5, 3, 4)] == [0, 1, 4, 25, 9, 16]
    assert ahead(6) == 36
    with pytest.raises(StorageError, match="block 7"):
        ahead(7)
    assert ahead(8) == 64
    ahead.close()
