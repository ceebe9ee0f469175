"""The recursive models of 100M: they build, and take a step on a small grid of ARC, one puzzle at a time."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from juliagpt_jax.data.puzzles import build
from juliagpt_jax.evaluation.puzzles import id_parameters
from juliagpt_jax.ground import config_file
from juliagpt_jax.models import parameters
from juliagpt_jax.training.puzzles import PuzzleTrainer
from juliagpt_jax.training.step import make_train_step

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["trm_100m", "trm_kda_100m"])
def test_a_step(name, tmp_path):
    grid = np.random.default_rng(0).integers(10, size=(10, 10)).tolist()
    pair = {"input": grid, "output": grid}
    for file in ("training", "evaluation"):
        (tmp_path / f"{file}.jsonl").write_text(json.dumps({"id": file, "train": [pair], "test": [pair]}))
    few = ["train.batch_size=1", "train.accumulate=1", "train.precision=f32", "mesh.data=1", f"data.path={tmp_path}"]
    few += ["data.puzzle.side=10", "model.context=100"]
    own = config_file.load(str(ROOT / "configs" / f"{name}.py"), few)
    trainer = PuzzleTrainer(own, build.load(own), tmp_path / "run", {})
    assert 9e7 < parameters.count(trainer.state.params) - id_parameters(trainer.state.params) < 1.15e8
    given = trainer.settled, trainer.model, trainer.mesh, trainer.objective, trainer.state, trainer.frozen
    state, metrics = make_train_step(*given)(trainer.state, trainer.batch(0), trainer.frozen)
    assert np.isfinite(float(metrics["loss"])) and float(metrics["grad_norm"]) > 0
    assert int(state.step) == 1 and jax.device_get(state.memo.rows.steps).tolist() == [1]
