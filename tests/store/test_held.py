"""A workdir is held to its checkpoint: config, tokenizer, metrics and `best`."""

import json
import os
import shutil

import pytest

from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.store import manifest
from juliagpt_jax.store.checkpoint import Checkpoints
from juliagpt_jax.store.workdir import find
from juliagpt_jax.training import metrics


@pytest.fixture
def workdir(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def edit(path, key, value, keep_hash):
    values = json.loads(path.read_text())
    values["model"][key] = value
    if not keep_hash:
        del values["sha256"]
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("keep_hash", [True, False], ids=["with its hash", "without"])
@pytest.mark.parametrize(("key", "value"), [("heads", 2), ("rope_base", 500.0), ("norm_eps", 0.1), ("softcap", 7.0)])
def test_a_config_that_is_not_the_checkpoints_is_refused_key_by_key(workdir, key, value, keep_hash):
    old = json.loads((workdir / "config.json").read_text())["model"][key]
    edit(workdir / "config.json", key, value, keep_hash)
    with pytest.raises(UserError) as error:
        find(workdir)
    assert f"(model.{key}: {old!r} -> {value!r})" in str(error.value)


def test_a_config_of_version_01_is_held_too(golden, tmp_path):
    shutil.copytree(golden / "before" / "plain", tmp_path / "run")
    find(tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"model": values["model"] | {"rope_base": 7.0}}))
    with pytest.raises(UserError, match=r"model\.rope_base: .* -> 7\.0"):
        find(tmp_path / "run")


def test_free_keys_may_differ_where_the_file_says_so_itself(workdir):
    values = json.loads((workdir / "config.json").read_text())
    values["train"]["log_every"] += 1
    (workdir / "config.json").write_text(json.dumps(values))
    with pytest.raises(sealed.Changed, match="take the key 'sha256' out of it"):
        find(workdir)
    del values["sha256"]
    (workdir / "config.json").write_text(json.dumps(values))
    find(workdir)


def test_a_tokenizer_that_is_not_the_checkpoints_is_refused(workdir):
    path = workdir / "tokenizer.json"
    values = sealed.read_json(path)
    values["characters"] = values["characters"][:-1] + "\u4e2d"
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"tokenizer\.json is not the tokenizer that its checkpoints were trained with"):
        find(workdir)


def resumed(workdir, capsys):
    step = manifest.steps(workdir / "checkpoints")[-1]
    metrics.Metrics(workdir, step).close()
    return capsys.readouterr().err


def test_metrics_as_they_were_written_stay_to_the_byte(workdir, capsys):
    path = workdir / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 40, "los')
    assert resumed(workdir, capsys) == "" and path.read_bytes() == whole
    assert not path.with_name("metrics.jsonl.damaged").exists()


@pytest.mark.parametrize(
    "old, new, says", [('"loss"', '"loss;', "line 1 is no row"), ('"loss": ', '"loss": 1', "not those that were")]
)
def test_damaged_metrics_are_kept_aside_and_named(workdir, old, new, says, capsys):
    path = workdir / "metrics.jsonl"
    lines = path.read_text().count("\n")
    path.write_text(path.read_text().replace(old, new, 1))
    damaged = path.read_bytes()
    with pytest.raises(StorageError, match=r"metrics\.jsonl.*damaged"):
        metrics.read(path)
    err = resumed(workdir, capsys)
    assert err.count("\n") == 1 and says in err and "kept as it was in metrics.jsonl.damaged" in err
    assert path.with_name("metrics.jsonl.damaged").read_bytes() == damaged
    assert path.read_text().count("\n") == lines - ("no row" in says), "the rows behind the bad one stay"


def test_metrics_that_are_gone_are_missed(workdir, capsys):
    path = workdir / "metrics.jsonl"
    path.unlink()
    with pytest.raises(StorageError, match=r"metrics\.jsonl is missing: checkpoint \d+ was saved beside its rows"):
        metrics.read(path)
    assert "metrics.jsonl is missing: the rows up to step" in resumed(workdir, capsys)
    assert not path.with_name("metrics.jsonl.damaged").exists()


def test_best_trusts_no_meta_that_its_manifest_does_not_know(workdir):
    folder = workdir / "checkpoints"
    best, others = os.readlink(folder / "best"), manifest.steps(folder)
    path = folder / best / "meta.json"
    sound = path.read_bytes()
    for old, new in [(b'"val_loss"', b'"val_lozs"'), (b'"step"', b'"stdp"'), (b'"val_loss": ', b'"val_loss": 9')]:
        assert old in sound
        path.write_bytes(sound.replace(old, new))
        with pytest.raises(manifest.Damaged, match=r"meta\.json has other bytes"):
            manifest.read_meta(folder / best)
        Checkpoints(folder, 3)._link_best()
        assert os.readlink(folder / "best") != best or len(others) == 1
    path.write_bytes(sound)
    Checkpoints(folder, 3)._link_best()
    assert os.readlink(folder / "best") == best
