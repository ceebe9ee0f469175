"""Checkpoints, metrics, lock and config of a workdir, in this process: whole or absent, and damage never unseen."""

import errno
import json
import math
import os
import random
import re
import shutil
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from juliagpt_jax.ground import board, config
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.store import checkpoint, claim
from juliagpt_jax.training import metrics

META = {"config": {}, "data": "d", "tokenizer": {}}


def state(step: int, width: int = 3, dtype=jnp.float32, averaged: bool = False) -> checkpoint.Items:
    rng = np.random.default_rng(step)
    array = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
    params = {"block": {"kernel": array(width, 5)}, "scale": array(width)}
    whole = lambda value: jnp.asarray(value, jnp.int32)
    items = {
        "params": params,
        "opt_state": ({"mu": jax.tree.map(lambda p: p * 0.5, params), "count": whole(step)},),
        "train": {"step": whole(step), "scale": jnp.float32(2.0**15), "skipped": whole(3)},
    }
    return items | ({"averaged": jax.tree.map(lambda p: p + 1, params)} if averaged else {})


def shapes(like: checkpoint.Items) -> checkpoint.Items:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like)


def bits(tree) -> dict[str, bytes]:
    return {path: np.asarray(leaf).tobytes() + str(leaf.dtype).encode() for path, leaf in paths(tree).items()}


def write(
    folder: Path, *steps: int, keep: int = 10, losses: dict[int, float | None] | None = None, **how
) -> checkpoint.Checkpoints:
    store = checkpoint.Checkpoints(folder, keep)
    for step in steps:
        store.save(step, state(step, **how), META | {"val_loss": (losses or {}).get(step, 1.0)})
        assert store.wait(), store.failed
    return store


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Sound steps 10 and 20; to be copied."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    write(folder, 10, 20).close()
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "checkpoints", symlinks=True)
    return tmp_path / "checkpoints"


def restore(folder: Path, like: checkpoint.Items | None = None):
    store = checkpoint.Checkpoints(folder, 10)
    try:
        return store.restore(shapes(state(20) if like is None else like))
    finally:
        store.close()


def falls_back(folder: Path, capsys) -> str:
    """Step 20 must be set aside with one warning and step 10 be used; returns the warning."""
    capsys.readouterr()
    restored, meta = restore(folder)
    assert meta["step"] == 10 and bits(restored) == bits(state(10))
    assert (folder / "20.corrupt").is_dir() and not (folder / "20").exists()
    warning = capsys.readouterr().err
    assert warning.count("\n") == warning.count("warning: checkpoint 20 is damaged") == 1
    return warning


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("averaged", [False, True])
def test_what_is_saved_comes_back_to_the_bit(tmp_path, dtype, averaged):
    write(tmp_path / "c", 5, dtype=dtype, averaged=averaged).close()
    like = state(5, dtype=dtype, averaged=averaged)
    assert bits(restore(tmp_path / "c", like)[0]) == bits(like)


def test_no_checkpoint_is_none_and_not_an_error(tmp_path):
    assert restore(tmp_path / "c") is None


def test_a_checkpoint_fits_another_number_of_devices(folder):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=everywhere), state(20))
    store = checkpoint.Checkpoints(folder, 3)
    restored, _ = store.restore(target)
    store.close()
    assert len(restored["params"]["scale"].devices()) == 4 and bits(restored) == bits(state(20))


def test_a_save_is_of_the_state_at_the_call_even_if_its_buffers_are_donated(tmp_path, monkeypatch):
    written, overwritten = checkpoint.Checkpoints._write, threading.Event()
    monkeypatch.setattr(checkpoint.Checkpoints, "_write", lambda *args: (overwritten.wait(), written(*args)))
    store = checkpoint.Checkpoints(tmp_path / "c", 3)
    live = state(1)
    store.save(1, live, META | {"val_loss": None})
    jax.block_until_ready(jax.jit(lambda s: jax.tree.map(lambda a: a * 0 - 1, s), donate_argnums=0)(live))
    overwritten.set()
    assert store.wait(), store.failed
    store.close()
    assert bits(restore(tmp_path / "c")[0]) == bits(state(1))


def test_every_flipped_bit_in_every_file_is_seen(folder):
    rng = random.Random(1)
    step = folder / "20"
    checkpoint.verify(step)
    files = [p for p in sorted(step.rglob("*")) if p.is_file()]
    flips = [(file, rng.randrange(8 * file.stat().st_size)) for file in files for _ in range(4)]
    assert len(flips) >= 100 and {f.name for f, _ in flips} >= {
        "manifest.json",
        "meta.json",
        "_METADATA",
        "commit_success.txt",
    }
    for file, bit in flips:
        sound = file.read_bytes()
        torn = bytearray(sound)
        torn[bit // 8] ^= 1 << bit % 8
        file.write_bytes(torn)
        with pytest.raises(checkpoint.Damaged):
            checkpoint.verify(step)
        file.write_bytes(sound)
    checkpoint.verify(step)


def manifest(folder: Path, change) -> None:
    path = folder / "20" / "manifest.json"
    values = json.loads(path.read_text())
    change(values["files"])
    path.write_text(json.dumps(values))


def data_file(folder: Path) -> Path:
    """The largest file with array bytes."""
    return max((folder / "20" / "params" / "d").iterdir(), key=lambda p: p.stat().st_size)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGE = {
    "truncated": lambda f: os.truncate(data_file(f), data_file(f).stat().st_size // 2),
    "one bit flipped": lambda f: flip(data_file(f)),
    "deleted": lambda f: data_file(f).unlink(),
    "emptied": lambda f: os.truncate(data_file(f), 0),
    "a file added": lambda f: (f / "20" / "params" / "extra").write_text("x"),
    "no manifest": lambda f: (f / "20" / "manifest.json").unlink(),
    "empty manifest": lambda f: (f / "20" / "manifest.json").write_text(""),
    "a manifest that is no object": lambda f: (f / "20" / "manifest.json").write_text("[1]"),
    "an endless size": lambda f: manifest(f, lambda files: files.update({"meta.json": [math.inf, ""]})),
    "no meta": lambda f: (f / "20" / "meta.json").unlink(),
    "an item gone": lambda f: shutil.rmtree(f / "20" / "opt_state"),
    "an empty folder": lambda f: (shutil.rmtree(f / "20"), (f / "20").mkdir()),
    "a copy of another step": lambda f: (shutil.rmtree(f / "20"), shutil.copytree(f / "10", f / "20")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_step_is_set_aside_and_the_older_one_used(folder, capsys, kind):
    DAMAGE[kind](folder)
    falls_back(folder, capsys)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "params/../../secret", "..\\secret"])
def test_a_manifest_that_points_outside_its_folder_is_refused_before_anything_is_opened(folder, capsys, name):
    (folder / "secret").write_text("x")
    manifest(folder, lambda files: files.update({name: [1, "0" * 64]}))
    assert "outside the folder" in falls_back(folder, capsys)


def test_a_link_in_place_of_a_file_is_refused_though_the_bytes_are_right(folder, capsys, tmp_path):
    file = data_file(folder)
    shutil.move(file, tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert "is a link" in falls_back(folder, capsys)


def test_stray_and_unfinished_folders_do_not_count(folder, capsys):
    for name in ["9999", "30.partial", "30.partial.orbax-checkpoint-tmp", "007", "²", "notes"]:
        (folder / name).mkdir()
        (folder / name / "junk").write_text("x")
    (folder / "40").write_text("a file")
    restored, _ = restore(folder)
    assert bits(restored) == bits(state(20))
    assert capsys.readouterr().err.count("\n") == 1
    assert (folder / "9999.corrupt").is_dir() and not list(folder.glob("*.partial*"))


def test_a_copy_under_a_later_name_is_not_the_newest(folder):
    shutil.copytree(folder / "10", folder / "9999")
    assert restore(folder)[1]["step"] == 20


def test_all_damaged_is_an_error_with_the_way_out_never_a_fresh_start(folder):
    for step in (10, 20):
        flip(folder / str(step) / "params" / "_METADATA")
    for _ in range(2):  # the second time they are already set aside
        with pytest.raises(
            StorageError, match="every checkpoint is damaged; put a sound copy back, or train again in another"
        ):
            restore(folder)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"width": 4}, "params/block/kernel: float32[3, 5] -> float32[4, 5]"),
        ({"dtype": jnp.bfloat16}, "params/scale: float32[3] -> bfloat16[3]"),
        ({"averaged": True}, "averaged/scale: absent -> float32[3]"),
    ],
)
def test_another_model_is_refused_field_by_field_and_nothing_is_set_aside(folder, how, message):
    with pytest.raises(UserError, match=re.escape(message)):
        restore(folder, state(20, **how))
    assert (folder / "20").is_dir()


def test_another_optimizer_state_is_refused(folder):
    other = state(20) | {"opt_state": ({"mu": {"block": jnp.zeros(3)}},)}
    with pytest.raises(UserError, match=r"opt_state/0/mu/block: absent -> float32\[3\]"):
        restore(folder, other)


def test_a_sound_step_that_does_not_load_is_not_called_damaged(folder, monkeypatch):
    def out_of_memory(*_, **__):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(ocp.Checkpointer, "restore", out_of_memory)
    with pytest.raises(StorageError, match=r"out of memory while .* is read"):
        restore(folder)
    with pytest.raises(StorageError, match=r"out of memory while .* is read"):
        checkpoint.load_params(folder / "20", shapes(state(20))["params"])
    assert (folder / "20").is_dir() and (folder / "10").is_dir()


@pytest.mark.parametrize("where", ["hashes", "write_json", "sync_folder"])
def test_a_failed_save_warns_leaves_the_older_steps_and_no_litter_and_is_tried_again(
    folder, monkeypatch, capsys, where
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = checkpoint.Checkpoints(folder, 1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, where, full)
        store.save(30, state(30), META | {"val_loss": 0.1})
        assert not store.wait() and "No space left" in str(store.failed)
    assert "warning: saving a checkpoint failed" in capsys.readouterr().err
    assert {p.name for p in folder.iterdir()} - {"30"} == {
        "10",
        "20",
        "best",
    }  # nothing is pruned for a step that failed
    assert not store.wait()  # still the last word
    store.save(40, state(40), META | {"val_loss": 0.2})
    assert store.wait() and store.failed is None
    store.close()
    assert bits(restore(folder)[0]) == bits(state(40))


def test_a_failed_orbax_write_leaves_nothing_on_a_full_disk(tmp_path, monkeypatch):
    def torn(self, path, **_):
        (path.with_name(path.name + ".orbax-checkpoint-tmp")).mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ocp.Checkpointer, "save", torn)
    store = checkpoint.Checkpoints(tmp_path / "c", 3)
    store.save(1, state(1), META | {"val_loss": None})
    assert not store.wait()
    store.close()
    assert list((tmp_path / "c").iterdir()) == []


def test_the_newest_and_the_best_stay(tmp_path):
    losses = {1: 3.0, 2: 1.0, 3: math.nan, 4: 2.0, 5: None, 6: -math.inf}
    folder = tmp_path / "c"
    for step in losses:
        write(folder, step, keep=2, losses=losses).close()
    assert checkpoint.steps(folder) == [2, 5, 6] and os.readlink(folder / "best") == "2"
    assert json.loads((folder / "6" / "meta.json").read_text(), parse_constant=pytest.fail)["val_loss"] is None


def test_a_stray_later_step_does_not_push_out_the_new_one(folder):
    store = checkpoint.Checkpoints(folder, 1)
    (folder / "9999").mkdir()
    store.save(30, state(30), META | {"val_loss": 5.0})
    assert store.wait()
    store.close()
    assert checkpoint.steps(folder) == [10, 30, 9999]  # 10 is the best


def test_parameters_alone_are_verified_too(folder):
    target = shapes(state(20))["params"]
    assert bits(checkpoint.load_params(folder / "20", target)) == bits(state(20)["params"])
    with pytest.raises(UserError, match="no averaged weights"):
        checkpoint.load_params(folder / "20", target, averaged=True)
    with pytest.raises(UserError, match=re.escape("params/scale: float32[3] -> float32[4]")):
        checkpoint.load_params(folder / "20", shapes(state(20, width=4))["params"])
    flip(data_file(folder))
    with pytest.raises(StorageError, match="damaged"):
        checkpoint.load_params(folder / "20", target)


def test_metrics_beyond_the_restored_step_and_a_torn_last_line_are_dropped(tmp_path):
    log = metrics.Metrics(tmp_path, 0)
    for step in range(1, 6):
        log.write({"step": step, "loss": step / 3, "odd": math.nan})
    log.close()
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    with open(path, "a") as file:
        file.write('{"step": 6, "lo')
    metrics.Metrics(tmp_path, 5).close()
    assert path.read_text() == whole
    metrics.Metrics(tmp_path, 3).close()
    assert path.read_text() == "".join(whole.splitlines(keepends=True)[:3])
    assert [row["odd"] for row in metrics.read(path)] == [None] * 3
    assert len(list(tmp_path.glob("events.*"))) >= 1


def test_metrics_go_on_without_tensorboard(tmp_path, monkeypatch, capsys):
    from tensorboardX.record_writer import RecordWriter

    log = metrics.Metrics(tmp_path, 0)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    for step in range(1, 40):
        log.write({"step": step, "loss": 1.0})
    log.close()
    assert len(metrics.read(log.path)) == 39 and capsys.readouterr().err.count("no more TensorBoard events") == 1


def test_tensorboard_reads_files_in_the_order_that_they_were_begun(tmp_path, monkeypatch):
    """By the time in their names: also where the clock was put back, or stands still."""
    names = []
    for now in (2_000_000_000, 5, 5, 2_000_000_000):
        monkeypatch.setattr(board.time, "time", lambda now=now: float(now))
        metrics.Metrics(tmp_path, 0).close()
        names.append(next(p.name for p in tmp_path.glob("events.*") if p.name not in names))
    assert names == sorted(names) and len(names) == 4
    assert all(name.startswith("events.out.tfevents.200000000") for name in names)


@pytest.mark.parametrize("module, shown", [("orbax.x.y", 0), ("asyncio.base_events", 0), ("somebody.else", 1)])
def test_what_a_failed_save_leaves_behind_is_not_shown(module, shown):
    try:
        exec("raise RuntimeError('Event loop is closed')", {"__name__": module})
    except RuntimeError as error:
        left = SimpleNamespace(exc_value=error, exc_traceback=error.__traceback__)
    calls = []
    checkpoint._without_late_threads(left, calls.append)
    assert len(calls) == shown


def test_a_workdir_has_one_holder(tmp_path):
    lock = claim.Lock(tmp_path / "a" / "w")
    with pytest.raises(UserError, match=rf"in use by process {os.getpid()} on "):
        claim.Lock(tmp_path / "a" / "w")
    lock._file.close()
    claim.Lock(tmp_path / "a" / "w")._file.close()


def test_the_config_binds_once_there_is_a_checkpoint(tmp_path, tiny):
    settle = partial(claim.settle_config, tmp_path)
    settle(tiny("train.batch_size=8"))
    settle(tiny())  # nothing is trained yet
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    settle(tiny("train.log_every=3", "train.keep=9", "mesh.data=0"))
    for override in [
        "train.batch_size=8",
        "model.context=8",
        "seed=1",
        "train.lr=0.5",
        "data.errors=replace",
        "train.precision=bf16",
    ]:
        key = override.partition("=")[0]
        with pytest.raises(
            UserError, match=rf"another config \({re.escape(key)}: .* -> .*\); give the old values back"
        ):
            settle(tiny(override))
    assert config.read(tmp_path / "config.json") == tiny("train.log_every=3", "train.keep=9", "mesh.data=0")
