"""Whole runs whose decay and averages are given in epochs: what a step is compiled for, what the plan says, and that a
run that was cut ends with the same bits, its average among them."""

import re
import shutil

import jax
import numpy as np
import pytest

from juliagpt_jax.data import corpus
from juliagpt_jax.ground import config_file
from juliagpt_jax.store.workdir import open_run
from juliagpt_jax.training import loop, run
from juliagpt_jax.training.loop import Trainer


@pytest.fixture(scope="module")
def settings(micro):
    def make(*overrides):
        flags = [flag.removeprefix("--config.") for flag in micro.flags]
        some = ["train.steps=12", "train.checkpoint_every=3", "train.eval_every=12", "train.sample_every=0"]
        some += ["train.final_windows=2", "train.keep=9", "train.accumulate=1", "mesh.data=1", "train.warmup=2"]
        return config_file.load("configs/tiny.py", [*flags, *some, *overrides])

    return make


def weights(workdir, step="newest", averaged=False):
    return jax.device_get(open_run(workdir, step, averaged).params)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.long
def test_the_mean_of_cycle_ends_and_of_a_run_that_was_cut(settings, tmp_path, capsys):
    """Two cycles of three steps: the average at the end is the mean of the weights after steps 9 and 12."""
    own = settings("train.schedule=cycles", "train.cycles.count=2", "train.cycles.share=0.5", "train.decay_tau=0.5")
    run.run(own, tmp_path / "whole", 0.0)
    tau = re.search(r"weight decay +\S+, tau = (\S+) epochs", capsys.readouterr().out)
    assert tau and float(tau[1]) == 0.5
    nine, last = weights(tmp_path / "whole", "9"), weights(tmp_path / "whole")
    mean = jax.tree.map(lambda a, b: (a + b) / 2, nine, last)
    for a, b in zip(*map(jax.tree.leaves, (mean, weights(tmp_path / "whole", averaged=True))), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert bits(weights(tmp_path / "whole", "6", True)) == bits(weights(tmp_path / "whole", "6"))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut", symlinks=True)
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "12")
    (tmp_path / "cut" / "DONE").unlink()
    run.run(own, tmp_path / "cut", 0.0)
    for averaged in (False, True):
        assert bits(weights(tmp_path / "cut", averaged=averaged)) == bits(
            weights(tmp_path / "whole", averaged=averaged)
        )


def test_a_step_is_compiled_for_the_epochs_of_its_text(settings, tmp_path, monkeypatch):
    """An epoch is all windows of the training text; the checkpoint keeps the knobs as they were given."""
    own = settings("train.decay_tau=2", "train.ema_half_life=0.5")
    text = corpus.load(own.data, own.model.context)
    trainer = Trainer(own, text, tmp_path / "run", {})
    steps = -(-len(text.train) // 16) / 4
    assert trainer.epoch_steps == steps
    assert trainer.settled.train.ema == pytest.approx(0.5 ** (2 / steps))
    assert trainer.settled.train.weight_decay == pytest.approx(1 / (own.train.lr * 2 * steps))
    compiled = []
    monkeypatch.setattr(loop, "make_train_step", lambda config, *given, **more: compiled.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    assert compiled == [trainer.settled] != [own]
    assert trainer.meta["config"]["train"]["ema"] == 0 and trainer.state.averaged != ()
    plain = settings("train.weight_decay=0.1").train
    said = run._decay(plain, trainer.state.params, steps)
    assert said == f"0.1, tau = {10 / plain.lr / steps:.3g} epochs (learning_rate)"
    apart = run._decay(settings("train.adam_lr=2e-3").train, trainer.state.params, steps)
    assert " for matrices, tau" in apart and "for others, tau" in apart
    assert run._decay(settings("train.weight_decay=0").train, trainer.state.params, steps) == "none (learning_rate)"
