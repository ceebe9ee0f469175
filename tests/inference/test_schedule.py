"""ODE models at the front door: trained at a tolerance, evaluated and decoding on the schedule that it asks for."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference import schedule
from juliagpt_jax.store import export
from juliagpt_jax.store.workdir import open_run

pytestmark = pytest.mark.long

ODE = ["model.depth=ode", "model.ode.solver=midpoint", "model.ode.steps=2", "model.ode.speed=2.0"]


@pytest.fixture(scope="module")
def trained(micro, tmp_path_factory):
    """A run of 10 steps whose solves follow a tolerance."""
    workdir = tmp_path_factory.mktemp("ode") / "run"
    micro.train(workdir, *ODE, "model.ode.rtol=0.05", "train.steps=10", "train.sample_every=0")
    return workdir


def answer(process):
    assert process.returncode == 0, process.err
    return json.loads(process.out.splitlines()[-1])


def test_a_schedule_is_kept_with_the_weights(trained):
    """So that decoding needs the workdir alone: a checkpoint has the schedule of its weights."""
    (times,) = open_run(trained).meta["schedule"]
    assert times[0] == 0 and times[-1] == 1 and times == sorted(times)


def test_as_trained(trained, tmp_path):
    """On the checkpoint's own schedule; averaged weights have another, looked for beside them."""
    run = open_run(trained)
    (own,) = run.meta["schedule"]
    run = dataclasses.replace(run, folder=tmp_path / "checkpoints" / "10")
    assert schedule.as_trained(run).schedule == (tuple(own),)
    (tmp_path / "schedules.json").write_text('{"step 10 averaged, midpoint, 0.05": [[0, 0.25, 1]]}')
    assert schedule.as_trained(run).schedule == (tuple(own),)
    assert schedule.as_trained(dataclasses.replace(run, averaged=True)).schedule == ((0, 0.25, 1),)


def test_generate_needs_no_text(micro, trained):
    before = micro.text.read_text()
    micro.text.write_text(before.replace("the", "eth", 1))
    try:
        flags = [f"--workdir={trained}", "--prompt=the nature", "--max_new_tokens=8", "--json"]
        (sample,) = answer(micro.run("generate", *flags))["samples"]
        assert len(sample["text"]) == 8
        other = micro.run("generate", *flags, "--ode_rtol=0.01")  # not kept yet, and the text is another now
        assert other.returncode == 2 and f"is not the text that {trained} was trained on: put it back" in other.err
    finally:
        micro.text.write_text(before)


def test_evaluate_says_what_leaks(micro, trained):
    """Of steps that adapt; on a schedule nothing leaks (tests/models/test_ode.py)."""
    flags = [f"--workdir={trained}", f"--data={micro.text}", "--json"]
    values = answer(micro.run("evaluate", *flags, "--ode_rtol=0.02", "--ode_adaptive"))
    assert values["leak_future"] > 0 and values["leak_rows"] > 0 and values["adaptive"]
    assert values["evaluations"] == 2 * (len(values["schedule"][0]) - 1)
    assert sealed.read_json(trained / "schedules.json") == {"step 10, midpoint, 0.02": values["schedule"]}
    assert values["flops"] is None, "the steps of training are not known"


def test_damaged_schedules_are_said_so(tmp_path):
    (tmp_path / "schedules.json").write_text('{"step 10, midpoint, 0.02": [[0, 0.5]]}')
    decoder = SimpleNamespace(config=SimpleNamespace(ode=SimpleNamespace(solver="midpoint", rtol=0.02), layers=1))
    run = SimpleNamespace(step=10, workdir=tmp_path, averaged=False)  # has no text: to calibrate would fail otherwise
    with pytest.raises(UserError, match=r"schedules.json: damaged .* remove it"):
        schedule._stored(run, decoder)


def test_a_packed_model_is_calibrated_and_keeps_no_file(trained, tmp_path):
    """On its own schedule as it is; at another tolerance on one that is measured each time."""
    path = tmp_path / "small.safetensors"
    export.pack(open_run(trained), "int8", path, "", "f32")
    run = open_run(path)
    assert schedule.as_trained(run).schedule == (tuple(run.meta["schedule"][0]),)
    finer, adaptive = schedule.choose(run, {"rtol": 0.001})
    assert len(finer.schedule[0]) > len(run.meta["schedule"][0]) and adaptive.config.ode.rtol == 0.001
    assert list(tmp_path.iterdir()) == [path]


def test_a_stack_has_no_steps(micro, clean, says):
    says(micro.run("evaluate", f"--workdir={clean}", "--ode_steps=3"), "no layer of this model is an ODE")
