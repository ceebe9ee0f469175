"""Seeds that train as one: each is what it is alone, also after kills that left them at different steps, and where one
of them gives up."""

import json
import shutil
import types

import jax
import numpy as np
import pytest

from juliagpt_jax.ground import config_file
from juliagpt_jax.ground.errors import NumericalError, UserError
from juliagpt_jax.objectives.objective import Objective
from juliagpt_jax.store.workdir import open_run
from juliagpt_jax.training import run, together
from juliagpt_jax.training.loop import Trainer

CLOCKS = ("tokens_per_s", "step_s", "mfu")


@pytest.fixture(scope="module")
def start(micro):
    """start(folder, *overrides) trains seeds 3 and 4 together, in folder/SEED; .settings is one config."""

    def settings(seed, *overrides):
        flags = [flag.removeprefix("--config.") for flag in micro.flags]
        base = ["train.steps=12", "train.checkpoint_every=4", "train.eval_every=4", "train.sample_every=0"]
        some = [*flags, *base, "train.keep=9", "train.accumulate=1", "mesh.data=1", "model.dropout=0.1"]
        return config_file.load("configs/tiny.py", [*some, *overrides, f"seed={seed}"])

    def start(folder, *overrides):
        return run.run_together({folder / str(seed): settings(seed, *overrides) for seed in (3, 4)}, 0.0)

    start.settings = settings
    return start


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """Two runs trained together, never stopped."""
    folder = tmp_path_factory.mktemp("together")
    reports = start(folder)
    assert all(reports[folder / seed]["step"] == 12 for seed in "34")
    return folder


def rows(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCKS} for row in lines]


def weights(workdir):
    return jax.tree.map(np.asarray, open_run(workdir).params)


def test_each_seed_is_its_solo_run(start, whole, tmp_path):
    """With dropout, whose masks are the seed's: weights and every row of the metrics, to rounding."""
    run.run(start.settings(4), tmp_path / "solo", 0.0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), weights(whole / "4"), weights(tmp_path / "solo")
    )
    mine, alone = rows(whole / "4"), rows(tmp_path / "solo")
    assert [set(row) for row in mine] == [set(row) for row in alone]
    for a, b in zip(mine, alone, strict=True):
        assert a == pytest.approx(b, abs=1e-4, rel=1e-4)
    other = jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), weights(whole / "3"), weights(whole / "4")))
    assert max(other) > 0.05, "another seed is another model"


@pytest.mark.long
def test_killed_at_different_steps_they_end_with_the_same_bits(start, whole, tmp_path):
    """One goes on from step 4, one from step 8, which is done before the other."""
    shutil.copytree(whole, tmp_path / "runs", symlinks=True)
    for seed, lost in (("3", (8, 12)), ("4", (12,))):
        for step in lost:
            shutil.rmtree(tmp_path / "runs" / seed / "checkpoints" / str(step))
        (tmp_path / "runs" / seed / "DONE").unlink()
    start(tmp_path / "runs")
    for seed in "34":
        assert rows(tmp_path / "runs" / seed) == rows(whole / seed)
        same = jax.tree.map(
            lambda a, b: a.tobytes() == b.tobytes(), weights(tmp_path / "runs" / seed), weights(whole / seed)
        )
        assert all(jax.tree.leaves(same)), seed


@pytest.mark.long
def test_one_that_gives_up_leaves_the_others(start, whole, tmp_path, monkeypatch):
    """The gradient of one seed is never finite: its run fails as it would alone, the other ends with the same bits."""
    batch = Trainer.batch

    def poisoned(self, step):
        sound = batch(self, step)
        return sound._replace(targets=sound.targets * 0 + 10**6) if self.config.seed == 3 and step >= 5 else sound

    monkeypatch.setattr(Trainer, "batch", poisoned)
    results = start(tmp_path, "train.max_bad_steps=2")
    error = results[tmp_path / "3"]
    assert isinstance(error, NumericalError) and "step 7" in str(error)
    assert (tmp_path / "3" / "FAILED").read_text() == f"{error}\n" and not (tmp_path / "3" / "DONE").exists()
    assert results[tmp_path / "4"]["step"] == 12 and rows(tmp_path / "4") == rows(whole / "4")


def test_what_cannot_train_together(start, tmp_path):
    def trainers(*overrides):
        mesh = lambda own: jax.make_mesh((own.mesh.data,), ("data",))
        trainer = lambda own: types.SimpleNamespace(
            config=own, settled=own, mesh=mesh(own), objective=Objective(own, None), meta={"base": ""}
        )
        return [trainer(start.settings(1)), trainer(start.settings(2, *overrides))]

    together.check(trainers())
    with pytest.raises(UserError, match=r"more than the seed: train.lr: 0.00[0-9]+ -> 0.5"):
        together.check(trainers("train.lr=0.5"))
    for one in (both := trainers()):
        one.mesh = jax.make_mesh((2,), ("data",))
    with pytest.raises(UserError, match=r"on one device, not on 2: --config.mesh.data=1"):
        together.check(both)


@pytest.mark.long
def test_the_command(micro, tmp_path):
    flags = ["--config=configs/tiny.py", *micro.flags, "--config.mesh.data=1", "--config.train.steps=6", "--json"]
    process = micro.run("main", f"--workdir={tmp_path}/runs/{{seed}}", "--seeds=5,6", *flags)
    assert process.returncode == 0, process.err
    runs = json.loads(process.out.splitlines()[-1])["runs"]
    assert [one["workdir"] for one in runs] == [f"{tmp_path}/runs/{seed}" for seed in (5, 6)]
    assert all((tmp_path / "runs" / str(seed) / "DONE").exists() for seed in (5, 6))
    for wrong in (["--workdir=x"], ["--workdir={seed}", "--config.seed=1"], ["--workdir={seed}", "--seeds=1,1"]):
        refused = micro.run("main", "--config=configs/tiny.py", "--seeds=1,2", *wrong)
        assert refused.returncode == 2 and refused.err.startswith("main: --seeds"), refused.err
