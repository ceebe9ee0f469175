"""What a workdir says of its source: the commit, in config.json, config.yaml and run.json."""

import json
import re
import subprocess

import pytest
import yaml

from juliagpt_jax.ground import config
from juliagpt_jax.store import claim, machine


@pytest.fixture
def commit(monkeypatch):
    """commit() as a new process would find it."""
    machine.commit.cache_clear()
    yield machine.commit
    machine.commit.cache_clear()


def test_a_config_is_saved_twice_with_the_commit(tiny, tmp_path):
    settings = tiny("train.lr=3e-4", "data.path=sch\xf6n: text", "train.wandb=")
    claim.settle_config(tmp_path, settings)
    told, read = (
        yaml.safe_load((tmp_path / "config.yaml").read_text()),
        json.loads((tmp_path / "config.json").read_text()),
    )
    assert told.pop("commit") == read.pop("commit") == machine.commit()
    assert told == config.to_dict(settings)
    assert read | {"sha256": ""} == told | {"sha256": ""}
    assert config.read(tmp_path / "config.json") == settings


def test_the_commit_of_a_checkout_and_the_version_elsewhere(commit, monkeypatch):
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=machine.__file__.rsplit("/", 1)[0], capture_output=True, text=True
    )
    if head.returncode:
        pytest.skip("the package lies in no checkout")
    assert re.fullmatch(rf"{head.stdout.strip()}(\+changes)?", commit())
    commit.cache_clear()
    run = subprocess.run

    def elsewhere(words, **named):  # git is there and knows a repository, but not this file
        return run(["git", "ls-files", "--error-unmatch", "no such file"] if "ls-files" in words else words, **named)

    monkeypatch.setattr(subprocess, "run", elsewhere)
    assert commit().startswith("version ")
