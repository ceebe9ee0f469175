"""The script that kills runs: each kind that it trains has a config that is one, and it never tries for ever."""

import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from juliagpt_jax.ground import config_file

RELIABILITY = Path(__file__).parents[2] / "experiments" / "reliability"


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(RELIABILITY))
    try:
        import kills
        import runs
    finally:
        sys.path.remove(str(RELIABILITY))
    return kills, runs


def test_every_kind_has_a_sound_config(scripts, tmp_path):
    _, runs = scripts
    text = runs.write_text(tmp_path / "text.txt")
    for name, kind in runs.KINDS.items():
        file, workdir, *more = kind.flags(tmp_path / "runs", text)
        overrides = [flag.removeprefix("--config.") for flag in more if flag.startswith("--config.")]
        settings = config_file.load(file.removeprefix("--config="), overrides)
        assert settings.train.steps == 4 * settings.train.checkpoint_every, name
        assert len(kind.workdirs(tmp_path)) == max(1, len(kind.seeds)) and workdir.startswith("--workdir="), name
        assert not any("{" in word for word in overrides), name
        for module, *_ in kind.before:
            assert (RELIABILITY.parents[1] / "juliagpt_jax" / f"{module}.py").is_file(), name


@pytest.mark.parametrize("how", ["at random", "inside a save"])
def test_a_kill_that_always_comes_too_late_ends(scripts, tmp_path, monkeypatch, how):
    kills, runs = scripts
    begun = []

    def ended(code):
        def start(*_):
            begun.append(code)
            return SimpleNamespace(poll=lambda: code, kill=lambda: None, wait=lambda: code)

        monkeypatch.setattr(runs, "start", start)
        monkeypatch.setattr(kills.time, "sleep", lambda seconds: None)
        kills.killed(runs.KINDS["seeds together"], tmp_path, tmp_path, tmp_path, how, random.Random(0), 1.0)

    with pytest.raises(RuntimeError, match="done before it was killed, 20 times"):
        ended(0)
    assert len(begun) == kills.TRIES
    with pytest.raises(RuntimeError, match="exit code 2 before"):
        ended(2)
    ended(-9)
    assert len(begun) == kills.TRIES + 2
