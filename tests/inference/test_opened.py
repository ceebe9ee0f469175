"""A model is opened once, for every command: found, loaded, and asked for its text."""

import dataclasses

import jax
import numpy as np
import pytest

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.opened import open_model
from juliagpt_jax.inference.window import Window
from juliagpt_jax.store.workdir import find, open_run


def test_a_workdir_is_found_and_opened(clean):
    found = find(clean)
    assert [int(folder.name) for folder in found.folders] == [40, 30, 20]
    assert [folder.name for folder in find(clean, "20").folders] == ["20"]
    opened = open_model(found)
    assert opened.run.step == 40 and opened.precision == "f32" and opened.adaptive is None
    assert opened.model == opened.run.model and opened.run.workdir == clean and not opened.run.averaged
    assert opened.tokenizer.to_dict() == opened.run.tokenizer.to_dict()
    same = jax.tree.map(np.array_equal, opened.params, open_run(clean).params)
    assert all(jax.tree.leaves(same))


def test_in_a_precision(clean):
    opened = open_model(find(clean), "int8")
    assert opened.precision == "int8" and opened.model.int8 and not opened.run.model.int8
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves(opened.params)}
    assert kinds == {"int8", "float32"} and {leaf.dtype.name for leaf in jax.tree.leaves(opened.run.params)} == {
        "float32"
    }


def test_the_ode_layers_are_solved_as_asked(golden):
    """As trained, or in other steps; a tolerance is in test_schedule.py."""
    workdir = golden / "before" / "hybrid"
    trained = open_model(find(workdir))
    assert trained.model.config == trained.run.config.model and trained.adaptive is None
    steps = open_model(find(workdir, ode={"steps": 5}))
    assert steps.model.config.ode.steps == 5 and steps.run.config.model.ode.steps == 2
    with pytest.raises(UserError, match=r"config.model.ode.rtol: euler has no error estimate"):
        open_model(find(workdir, ode={"rtol": 0.1}))


def test_a_model_without_ode_layers_is_asked_for_none(clean):
    with pytest.raises(UserError, match="--ode_rtol: no layer of this model is an ODE"):
        find(clean, ode={"rtol": 0.1})


def test_the_average(golden):
    found = find(golden / "before" / "plain", averaged=True)
    raw, mean = open_run(found.workdir), open_run(found)
    assert mean.averaged and not raw.averaged
    assert np.abs(np.asarray(raw.params["embedding"]) - mean.params["embedding"]).max() > 0


def test_a_packed_file(golden):
    found = find(golden / "before" / "int8.safetensors")
    opened = open_model(found)
    assert opened.model.int8 and opened.run.workdir == found.workdir and opened.run.step == 8
    with pytest.raises(UserError, match=r"int8\.safetensors is a packed model, which has no gradients"):
        opened.run.refuse_packed()
    with pytest.raises(UserError, match=r"int8\.safetensors is a packed model, which has no gradients"):
        found.refuse_packed()
    open_run(golden / "before" / "plain").refuse_packed()
    find(golden / "before" / "plain").refuse_packed()


def test_the_text_of_a_run(clean, micro):
    """Read, or refused in one wording; a command may take that wording and go on."""
    run = open_run(clean)
    assert run.corpus().fingerprint == run.meta["data"]
    other = dataclasses.replace(run, meta=run.meta | {"data": "0" * 64})
    says = f"{micro.text} is not the text that {clean} was trained on"
    with pytest.raises(UserError, match=says):
        other.corpus()
    lines = []
    assert other.corpus(lines.append).fingerprint == run.meta["data"] and lines == [says]


@pytest.mark.parametrize("slots, sinks", [(8, 0), (8, 3), (9, 2), (2, 0)])
@pytest.mark.parametrize("kind", [list, np.array])
def test_a_window_rolls(slots, sinks, kind):
    """To half its slots: the sinks and the newest tokens; and only when what comes does not fit."""
    window = Window(slots, sinks)
    window.check()
    text = list(range(3 * slots))
    seen = list(window.in_sight(kind(text)))
    half = slots // 2
    assert seen == text[:sinks] + text[len(text) - (half - sinks) :] and len(seen) == half == window.half
    assert list(window.begin(kind(text))) == seen and list(window.begin(kind(text[:slots]))) == text[:slots]
    assert not window.rolls(slots - 1, 1) and window.rolls(slots, 1)
    np.testing.assert_array_equal(window.rolls(np.array([0, slots]), 1), [False, True])


@pytest.mark.parametrize("sinks", [-1, 4, 5])
def test_sinks_leave_room(sinks):
    with pytest.raises(UserError, match=rf"sinks={sinks} is outside 0 \.\. 3"):
        Window(8, sinks).check()
