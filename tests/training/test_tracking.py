"""Weights & Biases, by a module that stands in for the library: what it is told, and that it stops nothing."""

import importlib.util
import sys
import types

import pytest

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.training import run
from juliagpt_jax.training.metrics import Metrics, read
from juliagpt_jax.training.tracking import Tracker, check


@pytest.fixture
def library(monkeypatch):
    """The library's stand-in; `.fails` names a function that raises."""
    told = types.SimpleNamespace(inits=[], rows=[], finished=0, fails="")

    def act(name, do):
        def acting(*given, **named):
            if told.fails == name:
                raise RuntimeError(f"{name} has failed")
            return do(*given, **named)

        return acting

    def finish():
        told.finished += 1

    one = types.SimpleNamespace(
        log=act("log", lambda values, step: told.rows.append((step, values))), finish=act("finish", finish)
    )

    def init(**named):
        told.inits.append(named)
        return one

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=act("init", init)))
    return told


def test_a_run_is_told_once_and_goes_on_as_the_same(library, tiny, tmp_path):
    settings = tiny("train.wandb=words")
    for first in (0, 2):
        metrics = Metrics(tmp_path, first, Tracker(tmp_path, settings))
        metrics.write({"step": first + 1, "loss": 2.5, "bad": float("nan")})
        metrics.close()
    assert library.rows == [(1, {"loss": 2.5}), (3, {"loss": 2.5})] and library.finished == 2
    one, two = library.inits
    assert one == two and one["project"] == "words" and one["resume"] == "allow" and len(one["id"]) == 16
    assert one["name"] == tmp_path.name and one["dir"] == str(tmp_path) and one["config"] == config.to_dict(settings)
    (tmp_path / "other").mkdir()
    Tracker(tmp_path / "other", settings)
    assert library.inits[-1]["id"] != one["id"]


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_what_fails_there_stops_nothing(fails, library, tiny, tmp_path, capsys):
    library.fails = fails
    metrics = Metrics(tmp_path, 0, Tracker(tmp_path, tiny("train.wandb=words")))
    for step in (1, 2):
        metrics.write({"step": step, "loss": 2.5})
    metrics.close()
    assert [row["step"] for row in read(tmp_path / "metrics.jsonl")] == [1, 2]
    said = capsys.readouterr().err
    assert said == f"warning: no more Weights & Biases: RuntimeError: {fails} has failed\n"


def test_it_must_be_installed_where_it_is_asked_for(tiny, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    run.check(tiny())
    with pytest.raises(UserError, match=r"config.train.wandb=words: the library wandb is missing: pip install"):
        run.check(tiny("train.wandb=words"))
    check(tiny())
