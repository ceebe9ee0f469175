"""What version 0.1 wrote opens, resumes and evaluates to the same numbers (tests/golden/before)."""

import json
import shutil

import jax
import numpy as np
import pytest

from juliagpt_jax import evaluate
from juliagpt_jax.ground import config
from juliagpt_jax.ground.knobs.names import KNOBS, MOVED
from juliagpt_jax.store.checkpoint import read_meta
from juliagpt_jax.store.workdir import open_run

# The run of "hybrid" as it is asked for today.
COMMON = [
    *["model.width=8", "model.heads=1", "model.context=16", "train.batch_size=4", "train.accumulate=1"],
    *["train.warmup=2", "train.lr=0.01", "train.steps=8", "train.checkpoint_every=4", "train.eval_every=4"],
    *["train.eval_windows=4", "train.final_windows=16", "train.sample_every=0", "train.log_every=1", "mesh.data=1"],
]
HYBRID = [
    *COMMON,
    *["model.layers=2", "model.mixer=attention monarch_heads", "model.depth=stack ode", "model.ode.steps=2"],
    *["train.optimizer=muon", "train.ode_energy=0.01", "train.ngram.weight=0.1", "data.order=easy_first"],
]


@pytest.fixture(scope="module")
def before(golden):
    return golden / "before"


@pytest.mark.parametrize("name", ["hybrid", "plain"])
def test_its_config_is_read_under_the_names_of_today(before, name):
    old = config.flatten(json.loads((before / name / "config.json").read_text()))
    assert set(MOVED) <= set(old) and not set(MOVED) & set(KNOBS)
    new = config.flatten(config.to_dict(config.read(before / name / "config.json")))
    assert set(new) == set(KNOBS)
    assert {MOVED.get(key, key): value for key, value in old.items()}.items() <= new.items()
    if name == "hybrid":
        used = {"model.ode.steps": 2, "train.ngram.weight": 0.1, "train.ode_energy": 0.01, "data.order": "easy_first"}
        assert used.items() <= new.items()


def same(ours, theirs, where=""):
    """Numbers equal but for rounding, everything else to the letter."""
    if isinstance(theirs, dict):
        for key, value in theirs.items():
            same(ours[key], value, f"{where}/{key}")
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=1e-5), where
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("name", ["hybrid", "plain", "plain --averaged", "int8.safetensors", "ternary.safetensors"])
def test_it_is_evaluated_to_the_same_numbers(before, name, micro, monkeypatch, capsys):
    monkeypatch.setenv("JULIAGPT_CACHE", str(micro.folder / "cache"))
    file, *flags = name.split()
    flags = [f"--workdir={before / file}", *flags, *([] if "." in file else ["--checkpoint=4"]), "--json"]
    evaluate.main(evaluate.parser().parse(flags))
    out, err = capsys.readouterr()
    assert err == "", "its text is still the one it was trained on"
    same(json.loads(out.splitlines()[-1]), json.loads((before / "evaluations.json").read_text())[name])


def rows(workdir, after):
    """{(step, what): value} of the metrics past a step, times aside."""
    found = {}
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for key in ("loss", "grad_norm", "lr", "val_loss", "averaged_val_loss"):
            if row["step"] > after and key in row:
                found[row["step"], key] = row[key]
    return found


@pytest.mark.long
@pytest.mark.parametrize("name", ["hybrid", "plain"])
def test_it_resumes_and_trains_as_it_did(before, name, micro, tmp_path):
    """From step 4 to 8: by the same command under the names of today, or by its own config.json."""
    workdir = tmp_path / "run"
    shutil.copytree(before / name, workdir)
    old = rows(workdir, after=4)
    assert {step for step, _ in old} == {5, 6, 7, 8} and len(old) >= 13
    kept = [line for line in (workdir / "metrics.jsonl").read_text().splitlines() if json.loads(line)["step"] <= 4]
    (workdir / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    asked = ["--config=configs/base.py", *(f"--config.{override}" for override in HYBRID)]
    if name == "plain":
        asked = [f"--config={workdir / 'config.json'}"]
    done = micro.run("main", *asked, f"--workdir={workdir}", timeout=300)
    assert done.returncode == 0, done.err
    assert "going on after step 4 of 8" in done.out and done.err == ""
    new = rows(workdir, after=4)
    assert new.keys() == old.keys()
    for key, value in old.items():
        assert new[key] == pytest.approx(value, rel=1e-4), key
    ended = read_meta(workdir / "checkpoints" / "8")
    wanted = config.to_dict(config.read(before / name / "config.json"))
    assert config.differences(wanted, ended["config"], {"train.report_share"}) == []  # which changes the report alone
    params = jax.tree.leaves(open_run(workdir).params)
    assert all(np.isfinite(leaf).all() for leaf in params)


def test_another_config_is_still_refused(before, micro, tmp_path, says):
    workdir = tmp_path / "run"
    shutil.copytree(before / "hybrid", workdir)
    flags = ["--config=configs/base.py", *(f"--config.{override}" for override in HYBRID)]
    process = micro.run("main", *flags, "--config.model.ode.steps=3", f"--workdir={workdir}")
    assert process.returncode == 2
    says(process, "another config (model.ode.steps: 2 -> 3)")
    # The checkpoint remembers, too, under the old names, where config.json was lost.
    (workdir / "config.json").unlink()
    process = micro.run("main", *flags, "--config.model.ode.steps=3", f"--workdir={workdir}")
    assert process.returncode == 2
    says(process, "its checkpoint is of a run with another config (model.ode.steps: 2 -> 3)")
