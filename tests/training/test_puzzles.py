"""Runs that learn puzzles, and the command that solves with what they learned."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from juliagpt_jax import solve
from juliagpt_jax.data.puzzles import build
from juliagpt_jax.ground import config_file
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference import solving
from juliagpt_jax.store.workdir import find, open_run
from juliagpt_jax.training import run
from juliagpt_jax.training.puzzles import PuzzleTrainer

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
SOME = [
    *["data.puzzle.side=4", "data.puzzle.train=40", "data.puzzle.test=12", "data.puzzle.least=5"],
    *["model.width=16", "model.layers=1", "model.heads=1", "model.context=16", "model.recursive.multiple=8"],
    *["train.recursive.steps=3", "train.recursive.explore=0.5", "train.steps=7", "train.batch_size=8"],
    *["train.warmup=2", "train.checkpoint_every=3", "train.eval_every=7", "train.sample_every=4", "train.log_every=1"],
    *["train.keep=9", "train.accumulate=2", "mesh.data=1"],
]


def settings(*overrides):
    return config_file.load(str(ROOT / "configs" / "trm_sudoku6.py"), [*SOME, *overrides])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, run.run(settings(), workdir, 0.0)


def final(workdir, own):
    return PuzzleTrainer(own, build.load(own), workdir, {}).state


def test_a_run_that_was_cut_ends_with_the_same_bits(whole, tmp_path):
    """The carry, the rows' puzzles and the weights: killed after step 3, in the middle of puzzles."""
    workdir, report = whole
    shutil.copytree(workdir, tmp_path / "cut", symlinks=True)
    for later in ("6", "7"):
        shutil.rmtree(tmp_path / "cut" / "checkpoints" / later)
    (tmp_path / "cut" / "DONE").unlink()
    again = run.run(settings(), tmp_path / "cut", 0.0)
    one, other = final(workdir, settings()), final(tmp_path / "cut", settings())
    bits = lambda tree: [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
    assert bits(one) == bits(other)
    assert set(np.asarray(one.memo.rows.steps).tolist()) <= {1, 2, 3} and one.memo.rows.inputs.any()
    assert again["solved_by_step"] == report["solved_by_step"]
    rows = [(path / "metrics.jsonl").read_text().splitlines() for path in (workdir, tmp_path / "cut")]
    timed = lambda key: key.endswith("_s") or key == "mfu"
    plain = [[{k: v for k, v in json.loads(row).items() if not timed(k)} for row in some] for some in rows]
    assert plain[0] == plain[1] and {"solved", "symbols", "halted", "steps", "halt_loss"} <= set(plain[0][0])
    assert (workdir / "plots" / "solved.png").exists()


def test_how_a_batch_is_cut_changes_rounding_alone(whole, tmp_path):
    one = final(whole[0], settings())
    run.run(settings("train.accumulate=1"), tmp_path / "run", 0.0)
    other = final(tmp_path / "run", settings("train.accumulate=1"))
    np.testing.assert_array_equal(one.memo.rows.inputs, other.memo.rows.inputs)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_growth_of_the_same_cycles_changes_nothing_and_of_others_does(whole, tmp_path):
    """The stages are in one program: that of a stage with the model's own cycles computes as the model."""
    one, stage = final(whole[0], settings()), "2x2"
    assert (settings().model.recursive.inner, settings().model.recursive.outer) == (2, 2)
    for growth, same in ((stage, True), ("1x1", False)):
        own = settings(f"train.recursive.growth={growth}")
        report = run.run(own, tmp_path / growth, 0.0)
        other = final(tmp_path / growth, own)
        pairs = zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
        assert all(np.allclose(a, b, atol=2e-3) for a, b in pairs) == same
        assert (report["flops"] == pytest.approx(whole[1]["flops"])) == same


def test_several_latents_train(whole, tmp_path):
    own = settings("model.recursive.latents=2", "model.recursive.gate=normalised", "train.steps=3")
    report = run.run(own, tmp_path / "run", 0.0)
    assert np.isfinite(report["loss"]) and report["flops"] * 7 == pytest.approx(whole[1]["flops"] * 3 * 2)


def test_a_batch_is_a_function_of_its_step(tmp_path):
    trainer = PuzzleTrainer(settings(), build.load(settings()), tmp_path, {})
    first, second, again = (jax.device_get(trainer.batch(step)) for step in (0, 3, 0))
    assert first.inputs.tobytes() == again.inputs.tobytes() != second.inputs.tobytes()
    np.testing.assert_array_equal(first.extra.least, again.extra.least)
    waits = np.concatenate([trainer.batch(step).extra.least for step in range(40)])
    assert set(waits.tolist()) == {0, 2, 3} and 0.4 < (waits > 0).mean() < 0.6  # explore=0.5, at most 3 steps


def test_the_report(whole):
    workdir, report = whole
    assert report["puzzles"] == 12 and len(report["solved_by_step"]) == 3 and "averaged" in report
    assert sum(count for _, count in report["solved_by_hardness"].values()) == 12
    assert report["flops"] > 0 and report["id_params"] == 16
    assert run.run(settings(), workdir, 0.0)["solved"] == report["solved"]  # of a run that is done


def test_solving_in_parts_and_with_noise(whole, monkeypatch):
    """Padded rows change nothing; more steps begin like fewer; noise is seeded, and the first sample has none."""
    opened = open_run(find(whole[0], averaged=True, kind="recursive"))
    puzzles = build.load(opened.config)
    given = opened.model, opened.params, puzzles.test.inputs, puzzles.test.ids
    three, five = solving.solve(*given, 3), solving.solve(*given, 5)
    np.testing.assert_array_equal(three.answers, five.answers[:3])
    np.testing.assert_allclose(three.halts, five.halts[:3], atol=1e-5)
    monkeypatch.setattr(solving, "ROWS", 5)
    cut = solving.solve(*given, 3)
    np.testing.assert_array_equal(cut.answers, three.answers)
    one = solving.solve(*given, 3, samples=4, noise=0.5, seed=1)
    again = solving.solve(*given, 3, samples=4, noise=0.5, seed=1)
    np.testing.assert_array_equal(one.answers, again.answers)
    assert (one.halts[-1] >= cut.halts[-1] - 1e-6).all() and (one.halts[-1] > cut.halts[-1] + 1e-4).any()


def test_the_command(whole, tmp_path, capsys):
    def run_it(*arguments):
        solve.main(solve.parser().parse([str(a) for a in arguments]))
        return capsys.readouterr().out

    workdir, report = whole
    flags = f"--workdir={workdir}", "--averaged"
    out = run_it(*flags, "--json", "--show=2", f"--draw={tmp_path / 'pictures'}")
    values = json.loads(out.splitlines()[-1])
    assert values["solved_by_step"] == pytest.approx(report["averaged"]["solved_by_step"])
    assert values["puzzles"] == len(values["answers"]) == len(values["verdicts"]) == 12
    assert values["verified"] == pytest.approx(values["solved"]) == np.mean([not v for v in values["verdicts"]])
    assert values["verified_first_step"] == pytest.approx(values["solved_by_step"][0])
    assert "test puzzle 2" in out and "test puzzle 3" not in out
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2
    found = []
    for more in ((), ("--without_ids",)):
        out = run_it(*flags, "--json", "--show=0", "--forms=3", *more)
        found.append(json.loads(out.splitlines()[-1]))
        assert found[-1]["votes"]["voted"] == pytest.approx(found[-1]["verified"]) and "voted first step" in out
    assert found[0]["votes"]["single_pass"] == pytest.approx(report["averaged"]["solved"])
    assert found[0]["loss"] != found[1]["loss"]
    mine = tmp_path / "mine.txt"
    mine.write_text("12..34..2..14...\n")
    out = run_it(*flags, f"--puzzles={mine}", "--steps=5")
    assert f"{mine}:1" in out and "of 1 solved, by step 5" in out


def test_other_commands_refuse_it(whole):
    with pytest.raises(UserError, match="the command solve reads it"):
        find(whole[0])
