"""Real processes, killed, starved and lied to: what they leave must be the bits of a run that was never disturbed."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.ground import config
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.store import checkpoint
from juliagpt_jax.training import metrics
from juliagpt_jax.training.state import initial_state, items

# Run before the command, in the same process: it kills itself at the k-th call of a function, before or after the call.
DIE = """
import os, signal
from juliagpt_jax.store import checkpoint
from juliagpt_jax.training import loop
import orbax.checkpoint as ocp
def die(owner, name, k=1, after=False):
    old, calls = getattr(owner, name), []
    def dying(*args, **kwargs):
        calls.append(1)
        if len(calls) == k and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        value = old(*args, **kwargs)
        if len(calls) == k and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return value
    setattr(owner, name, dying)
"""
DIE_INSIDE_ORBAX = (
    DIE
    + """
import pathlib, threading
save = ocp.Checkpointer.save
def dying_save(self, path, *args, **kwargs):
    def watch():
        while not any(p.is_file() and "ocdbt" in str(p) for p in path.parent.glob(path.name + "*/**/*")):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=watch, daemon=True).start()
    return save(self, path, *args, **kwargs)
ocp.Checkpointer.save = dying_save
"""
)
DIE_WHILE_PRUNING = (
    DIE
    + """
import shutil
def prune(folder, *_, **__):
    next(p for p in sorted(folder.rglob("*")) if p.is_file()).unlink()
    os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Checkpoints._prune_now = checkpoint.Checkpoints._prune
def _prune(self, *args):
    shutil.rmtree = prune
    self._prune_now(*args)
checkpoint.Checkpoints._prune = _prune
"""
)
SLOWLY = """
import time
from juliagpt_jax.training import loop
quick = loop.Trainer.batch
loop.Trainer.batch = lambda self, step: (time.sleep(0.05), quick(self, step))[1]
"""


def final_arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Parameters, optimizer state and train scalars of the newest checkpoint, which must be sound."""
    settings = config.read(workdir / "config.json")
    model = build_model(settings, tokenizers.load(workdir / "tokenizer.json").vocab_size)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.eval_shape(lambda: initial_state(settings, model))
    target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), abstract)
    folder = workdir / "checkpoints" / str(checkpoint.steps(workdir / "checkpoints")[-1])
    checkpoint.verify(folder)
    return {path: np.asarray(leaf) for path, leaf in paths(checkpoint._load(folder, items(target))).items()}


def rows(workdir: Path) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k not in metrics.TIMING} for row in metrics.read(workdir / "metrics.jsonl")
    ]


def same(workdir: Path, clean: Path) -> None:
    """Hold a finished workdir to one that was never disturbed, to the bit."""
    assert (workdir / "DONE").exists()
    ours, theirs = final_arrays(workdir), final_arrays(clean)
    assert list(ours) == list(theirs)
    for path, array in theirs.items():
        assert ours[path].tobytes() == array.tobytes(), path
    assert rows(workdir) == rows(clean)
    samples = lambda folder: {p.name: p.read_bytes() for p in (folder / "samples").iterdir()}
    assert samples(workdir) == samples(clean)
    report = lambda folder: json.loads((folder / "report.json").read_text())
    for key in ("perplexity", "bpc", "characters", "passages", "skipped_steps", "flops", "counted", "words"):
        assert report(workdir)[key] == report(clean)[key]
    assert os.readlink(workdir / "checkpoints" / "best") == os.readlink(clean / "checkpoints" / "best")


@pytest.fixture(scope="module")
def halfway(micro):
    """A workdir that was told to stop after some steps and so holds checkpoints up to step 25; to be copied."""
    folder = micro.folder / "halfway"
    micro.train(folder, code=143, before=stop_after(25))
    assert checkpoint.steps(folder / "checkpoints") == [10, 20, 25]
    return folder


def stop_after(step: int, number: str = "SIGTERM") -> str:
    """Code that sends itself a signal while step number `step` runs."""
    return f"""
import os, signal, time
from juliagpt_jax.training import loop
batch = loop.Trainer.batch
def stopping(self, step):
    if step == {step}:
        os.kill(os.getpid(), signal.{number})
        time.sleep(0.2)
    return batch(self, step)
loop.Trainer.batch = stopping
"""


@pytest.fixture
def workdir(halfway, tmp_path):
    shutil.copytree(halfway, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


# 1: SIGKILL


@pytest.mark.slow
def test_killed_at_random_times_until_done(micro, clean, tmp_path):
    rng = random.Random(3)
    log = tmp_path / "w" / "metrics.jsonl"
    for low, high in [(1, 9), (10, 20), (0, 1), (12, 30), (25, 40), (36, 43)]:
        target = rng.randrange(low, high)
        process = micro.start("main", *micro.training(tmp_path / "w"), before=SLOWLY)
        # Rows of the run before are there until the process has restored: then it dies while it starts.
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= target):
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        _, err = process.communicate()
        assert "Traceback" not in err and process.returncode == -signal.SIGKILL, err
    micro.train(tmp_path / "w")
    same(tmp_path / "w", clean)


@pytest.mark.long
def test_killed_at_every_stage_of_a_save_and_of_the_end(micro, clean, tmp_path):
    folder = tmp_path / "w" / "checkpoints"
    points = [
        ("inside Orbax's write", DIE_INSIDE_ORBAX, []),
        ("before Orbax commits", DIE + "die(ocp.Checkpointer, 'save')", []),
        ("after Orbax committed", DIE + "die(ocp.Checkpointer, 'save', after=True)", []),
        ("before the manifest", DIE + "die(checkpoint, 'write_json', 2)", []),
        ("after the manifest", DIE + "die(checkpoint, 'write_json', 2, after=True)", []),
        ("before the rename", DIE + "die(checkpoint, 'verify', after=True)", []),
        ("after the rename", DIE + "die(checkpoint, 'sync_folder', 1)", [10]),
        ("before best", DIE + "die(checkpoint.Checkpoints, '_link_best')", [10, 20]),
        ("before pruning", DIE + "die(checkpoint.Checkpoints, '_prune')", [10, 20, 30]),
    ]
    for where, code, steps in points:
        micro.train(tmp_path / "w", code=-signal.SIGKILL, before=code)
        assert checkpoint.steps(folder) == steps, where
    micro.train(tmp_path / "w", "train.keep=1", code=-signal.SIGKILL, before=DIE_WHILE_PRUNING)
    for step in checkpoint.steps(folder):
        checkpoint.verify(folder / str(step))
    micro.train(
        tmp_path / "w",
        code=-signal.SIGKILL,
        before="from juliagpt_jax import main\n" + DIE + "die(loop.Trainer, 'report')",
    )
    assert not (tmp_path / "w" / "DONE").exists()
    micro.train(tmp_path / "w")
    same(tmp_path / "w", clean)
    assert not list(folder.glob("*.partial*"))


@pytest.mark.long
def test_killed_while_it_writes_a_sample_after_a_checkpoint(micro, clean, tmp_path):
    late = (
        DIE
        + """
from juliagpt_jax.training.events import Events
die(Events, "sample")
sample = Events.sample
Events.sample = lambda self, state: (__import__("time").sleep(2), sample(self, state))[1]
"""
    )
    micro.train(tmp_path / "w", code=-signal.SIGKILL, before=late)
    micro.train(tmp_path / "w")
    same(tmp_path / "w", clean)


# 2: SIGTERM and Ctrl-C


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), pytest.param("SIGINT", 130, marks=pytest.mark.long)])
def test_a_stop_signal_saves_the_step_reached_and_the_rerun_loses_nothing(micro, clean, tmp_path, says, name, code):
    stopped = micro.train(tmp_path / "w", code=code, before=stop_after(17, name))
    assert "stopping after this step" in stopped.err and "main: stopped after step 17 of 40" in stopped.err
    assert checkpoint.steps(tmp_path / "w" / "checkpoints") == [10, 17]
    again = micro.train(tmp_path / "w")
    assert "going on after step 17 of 40" in again.out
    same(tmp_path / "w", clean)


@pytest.mark.long
def test_a_stop_signal_during_compilation_and_during_the_last_save(micro, clean, tmp_path):
    compiling = """
import os, signal, time
from juliagpt_jax.training import loop
make = loop.make_train_step
def making(*args, **more):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
    return make(*args, **more)
loop.make_train_step = making
"""
    micro.train(tmp_path / "w", code=143, before=compiling)
    assert checkpoint.steps(tmp_path / "w" / "checkpoints") == [1]
    saving = """
import os, signal, time
from juliagpt_jax.store import checkpoint
hashes = checkpoint.hashes
def hashing(folder):
    if folder.name.startswith("40"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
    return hashes(folder)
checkpoint.hashes = hashing
"""
    stopped = micro.train(tmp_path / "w", code=143, before=saving)
    assert "stopped after step 40 of 40" in stopped.err and not (tmp_path / "w" / "DONE").exists()
    micro.train(tmp_path / "w")
    same(tmp_path / "w", clean)


def test_a_second_signal_ends_the_process_at_once(micro, tmp_path):
    stuck = """
import time
from juliagpt_jax.store import checkpoint
from juliagpt_jax.training import events
events.Events.evaluate = lambda self, state: (print("stuck", flush=True), time.sleep(60))
"""
    process = micro.start("main", *micro.training(tmp_path / "w"), before=stuck)
    assert any("stuck" in line for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == "\n" and "once more" in process.stderr.readline()
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143 and time.monotonic() - begun < 5
    process.communicate()


# 3: the disk is full


def small_disk(micro, folder: Path, size: str, *overrides: str) -> subprocess.CompletedProcess:
    """Train on a file system of its own, of `size` bytes; afterwards its files are in `folder`."""
    disk = folder / "disk"
    for path in (disk, folder / "copy"):
        path.mkdir(parents=True, exist_ok=True)
    script = (
        f'mount -t tmpfs -o size={size} none "{disk}" || exit 99; cp -a "{folder}/copy/." "{disk}"; shift 0; '
        f'"$@"; code=$?; rm -rf "{folder}/copy"; cp -a "{disk}" "{folder}/copy"; exit $code'
    )
    command = [sys.executable, "-m", "juliagpt_jax.main", *micro.training(disk / "w", *overrides)]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *command],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=90,
        env=os.environ | {"XLA_FLAGS": "", "JULIAGPT_CACHE": str(micro.folder / "cache")},
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"no private mount here: {done.stderr.strip()}")
    return done


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_full_disk_is_loud_keeps_the_older_steps_and_the_rerun_loses_nothing(micro, clean, tmp_path):
    full = small_disk(micro, tmp_path, "600k")
    assert full.returncode == 4, full.stderr[-2000:]
    assert "warning: saving a checkpoint failed, it is tried again" in full.stderr
    assert sum(line.startswith("main: ") for line in full.stderr.splitlines()) == 1, full.stderr[-2000:]
    assert all(line.startswith(("warning: ", "main: ")) for line in full.stderr.splitlines()), full.stderr[-2000:]
    kept = tmp_path / "copy" / "w" / "checkpoints"
    assert checkpoint.steps(kept)
    for step in checkpoint.steps(kept):
        checkpoint.verify(kept / str(step))
    (kept / "40.partial.orbax-checkpoint-tmp" / "params").mkdir(
        parents=True, exist_ok=True
    )  # threads outlive a failure
    enough = small_disk(micro, tmp_path, "20m")
    assert enough.returncode == 0, enough.stderr[-2000:]
    assert "going on after step" in enough.stdout and not list(kept.glob("*.partial*"))
    same(tmp_path / "copy" / "w", clean)


def test_a_disk_too_small_for_metrics_ends_with_exit_code_4_and_does_not_hang(micro, tmp_path):
    full = small_disk(micro, tmp_path, "24k")
    assert full.returncode == 4 and "No space left on device" in full.stderr.splitlines()[-1]


@pytest.mark.long
def test_one_save_that_fails_is_tried_again_and_the_last_one_must_not_fail(micro, clean, tmp_path):
    failing = """
import errno
from juliagpt_jax.store import checkpoint
hashes = checkpoint.hashes
def full(folder):
    if folder.name.split(".")[0] in {!r}:
        raise OSError(errno.ENOSPC, "No space left on device")
    return hashes(folder)
checkpoint.hashes = full
"""
    last = micro.train(tmp_path / "w", code=4, before=failing.format(["20", "40"]))
    assert (
        last.err.count("warning: saving a checkpoint failed") == 2 and last.err.count("main: the last checkpoint") == 1
    )
    assert checkpoint.steps(tmp_path / "w" / "checkpoints") == [10, 30] and not (tmp_path / "w" / "DONE").exists()
    micro.train(tmp_path / "w")
    same(tmp_path / "w", clean)


# 4: the workdir


@pytest.mark.parametrize("bad", ["a file", "under a file", "read-only"])
def test_a_workdir_that_cannot_be_written_is_refused(micro, tmp_path, says, bad):
    (tmp_path / "file").write_text("x")
    where = {"a file": tmp_path / "file", "under a file": tmp_path / "file" / "w", "read-only": Path("/proc/nowhere")}[
        bad
    ]
    says(micro.train(where, code=2), f"--workdir={where}: cannot write there")


# 5 and 6: damage


@pytest.mark.parametrize("kind", ["flipped", "manifest", "stray"])
def test_a_damaged_newest_step_costs_time_and_no_bit(micro, clean, workdir, says, kind):
    newest = workdir / "checkpoints" / "25"
    victim = max((newest / "opt_state" / "d").iterdir(), key=lambda p: p.stat().st_size)
    if kind == "flipped":
        content = bytearray(victim.read_bytes())
        content[random.Random(5).randrange(len(content))] ^= 16
        victim.write_bytes(content)
    elif kind == "manifest":
        (newest / "manifest.json").unlink()
    else:
        newest.rename(workdir / "checkpoints" / "9999")
        for name in ("30.partial", "30.partial.orbax-checkpoint-tmp"):
            shutil.copytree(workdir / "checkpoints" / "10", workdir / "checkpoints" / name)
    done = micro.train(workdir)
    bad = "9999" if kind == "stray" else "25"
    says(done, f"warning: checkpoint {bad} is damaged", f"set aside as {bad}.corrupt")
    assert "going on after step 20" in done.out and (workdir / "checkpoints" / f"{bad}.corrupt").is_dir()
    same(workdir, clean)


def test_when_every_checkpoint_is_damaged_nothing_begins_afresh(micro, workdir, says):
    for step in (10, 20, 25):
        (workdir / "checkpoints" / str(step) / "meta.json").write_text("{}")
    lost = micro.train(workdir, code=4)
    assert lost.err.count("warning") == 3 and "train again in another --workdir" in lost.err.splitlines()[-1]
    says(micro.train(workdir, code=4), "every checkpoint is damaged")
    assert len(rows(workdir)) > 20  # nothing else is touched


# 7 and 8: the checkpoint and the config


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["model.width=32", "model.layers=2"], ["model.width: 16 -> 32; model.layers: 1 -> 2"]),
        (
            ["train.batch_size=8", "model.context=8", "seed=7"],
            ["model.context: 16 -> 8; train.batch_size: 4 -> 8; seed: 42 -> 7"],
        ),
        (["train.precision=bf16"], ["train.precision: 'f32' -> 'bf16'"]),
    ],
)
def test_another_config_is_refused_with_the_diff(micro, workdir, says, overrides, parts):
    says(micro.train(workdir, *overrides, code=2), "holds a run with another config", *parts)


def edit(workdir: Path, **groups: dict) -> None:
    path = workdir / "config.json"
    values = json.loads(path.read_text())
    for group, changes in groups.items():
        values[group] |= changes
    del values["sha256"]  # else the file is refused before anything is compared
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("group", "key", "value", "parts"),
    [
        ("model", "width", 32, ["does not fit this config", "kernel: float32[64, 16] -> float32[128, 32]", " more"]),
        ("train", "ema", 0.9, ["does not fit this config", "averaged/", "absent -> float32"]),
        ("train", "lr", 0.5, ["train.lr: 0.001 -> 0.5"]),
    ],
)
def test_a_config_file_edited_to_match_does_not_hide_it(micro, workdir, says, group, key, value, parts):
    edit(workdir, **{group: {key: value}})
    says(micro.train(workdir, f"{group}.{key}={value}", code=2), *parts)
    assert checkpoint.steps(workdir / "checkpoints") == [10, 20, 25]


@pytest.mark.parametrize("vocabulary", ["same", "other"])
def test_other_training_data_is_refused(micro, tmp_path, says, vocabulary):
    text = tmp_path / "own.txt"
    text.write_bytes(micro.text.read_bytes())
    micro.train(
        tmp_path / "w", f"data.path={text}", "train.steps=6", "train.checkpoint_every=2", code=143, before=stop_after(3)
    )
    text.write_text(text.read_text().replace("truth", "thrut" if vocabulary == "same" else "TRUTH"))
    refused = micro.train(tmp_path / "w", f"data.path={text}", "train.steps=6", "train.checkpoint_every=2", code=2)
    says(refused, "with other data" if vocabulary == "same" else "does not fit this config: ")


@pytest.mark.long
def test_knobs_of_logging_may_change(micro, workdir, clean):
    micro.train(workdir, "train.keep=1", "train.log_every=5", "train.checkpoint_every=8", "train.sample_every=0")
    for path, array in final_arrays(clean).items():
        assert final_arrays(workdir)[path].tobytes() == array.tobytes()


@pytest.mark.long
def test_the_same_text_may_lie_elsewhere(micro, workdir, tmp_path, says):
    """The hash decides, of a run under way and of one that is done; a refused text's path is not written down."""
    same_, other = tmp_path / "same.txt", tmp_path / "other.txt"
    same_.write_bytes(micro.text.read_bytes())
    other.write_bytes(micro.text.read_bytes() + b"the line\n")
    micro.train(workdir, f"data.path={same_}")
    says(micro.train(workdir, f"data.path={other}", code=2), "trained on another text than", "other.txt")
    assert json.loads((workdir / "config.json").read_text())["data"]["path"] == str(same_)
    says(micro.train(workdir, f"data.path={same_}", "train.steps=90", code=2), "train.steps: 40 -> 90", "import_model")


@pytest.mark.long
def test_a_mistake_before_the_first_checkpoint_may_be_put_right(micro, tmp_path, says):
    says(micro.train(tmp_path / "w", f"data.path={tmp_path}/nothing.txt", code=2), "does not exist")
    micro.train(tmp_path / "w", "train.steps=6", "train.sample_every=0")


# 9: another number of devices


@pytest.mark.long
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_run_goes_on_on_one_device(micro, workdir, clean):
    assert json.loads((workdir / "run.json").read_text())["device"].startswith("2 x")
    one = micro.train(workdir, "mesh.data=1", XLA_FLAGS="--xla_force_host_platform_device_count=1")
    assert "1 in use" in one.out
    ours, theirs = final_arrays(workdir), final_arrays(clean)
    for path, array in theirs.items():
        np.testing.assert_allclose(ours[path], array, atol=1e-4, rtol=1e-4)
    near = [(a["loss"], b["loss"]) for a, b in zip(rows(workdir), rows(clean), strict=True) if "loss" in a]
    assert (
        len(near) == 40 and max(abs(a - b) for a, b in near) < 1e-4
    )  # other data would differ by a thousand times that


# 10: two processes


@pytest.mark.long
def test_a_second_process_is_refused_and_a_killed_holder_is_forgotten(micro, clean, tmp_path, says):
    process = micro.start("main", *micro.training(tmp_path / "w"), before=SLOWLY + "time.sleep(3)")
    for _ in range(200):
        if (tmp_path / "w" / "metrics.jsonl").exists():
            break
        time.sleep(0.1)
    begun = time.monotonic()
    says(micro.train(tmp_path / "w", code=2), f"is in use by process {process.pid} on ")
    assert time.monotonic() - begun < 15
    process.kill()
    process.communicate()
    micro.train(tmp_path / "w")
    same(tmp_path / "w", clean)


# 11 and 12: numbers that are not finite

# The batches after some steps hold targets beyond the vocabulary: the loss is NaN.
BAD_BATCHES = """
from juliagpt_jax.training import loop
sound = loop.Trainer.batch
def poisoned(self, step):
    batch = sound(self, step)
    return batch._replace(targets=batch.targets + 10_000_000) if step in {!r} else batch
loop.Trainer.batch = poisoned
"""
# From one step on a parameter holds NaN.
BAD_PARAMETER = """
from juliagpt_jax.training import loop
sound = loop.Trainer.batch
def poisoned(self, step):
    if step == {!r}:
        block = self.state.params["block_0"]
        block["mixer"]["out"]["kernel"] = block["mixer"]["out"]["kernel"] * float("nan")
    return sound(self, step)
loop.Trainer.batch = poisoned
"""


@pytest.mark.long
def test_a_run_that_stays_bad_ends_with_the_step_and_the_tensor(micro, tmp_path):
    overrides = ["train.max_bad_steps=5"]
    failed = micro.train(tmp_path / "w", *overrides, code=3, before=BAD_PARAMETER.format(22))
    culprit = re.fullmatch(
        r"main: step 27: the gradient of (\S+) is not finite, for the 5th step in a row; .*", failed.err.strip()
    )
    assert culprit, failed.err
    assert f"params/{culprit[1]}" in final_arrays(tmp_path / "w")
    assert "step 27" in (tmp_path / "w" / "FAILED").read_text()
    arrays = final_arrays(tmp_path / "w")
    assert int(arrays["train/step"]) == 20 and all(np.isfinite(a).all() for a in arrays.values())
    micro.train(tmp_path / "w", *overrides)
    assert not (tmp_path / "w" / "FAILED").exists()


def test_one_bad_step_is_skipped_counted_and_changes_nothing(micro, tmp_path):
    overrides = ["train.checkpoint_every=1", "train.keep=40", "train.steps=8", "train.sample_every=0"]
    micro.train(tmp_path / "w", *overrides, before=BAD_BATCHES.format([4]))
    log = [row for row in rows(tmp_path / "w") if "loss" in row]
    assert (
        [row["skipped"] for row in log] == [0, 0, 0, 0, 1, 1, 1, 1]
        and log[4]["loss"] is None
        and log[7]["bad_in_row"] == 0
    )
    assert json.loads((tmp_path / "w" / "report.json").read_text())["skipped_steps"] == 1
    states = []
    for step in (4, 5):
        shutil.copytree(tmp_path / "w", tmp_path / str(step), symlinks=True)
        for other in set(range(1, 9)) - {step}:
            shutil.rmtree(tmp_path / str(step) / "checkpoints" / str(other))
        states.append(final_arrays(tmp_path / str(step)))
    for path in states[0]:
        if not path.startswith("train/"):
            assert states[0][path].tobytes() == states[1][path].tobytes(), path


@pytest.mark.long
def test_a_learning_rate_that_diverges_leaves_a_finite_checkpoint(micro, tmp_path):
    diverged = micro.train(tmp_path / "w", "train.lr=1e30", "train.max_bad_steps=5", "train.checkpoint_every=1", code=3)
    assert diverged.err.startswith("main: step ") and diverged.err.count("\n") == 1
    assert all(np.isfinite(a).all() for a in final_arrays(tmp_path / "w").values())


@pytest.mark.long
def test_the_loss_scale_of_f16_is_in_the_checkpoint_and_halves_on_overflow(micro, tmp_path):
    overrides = ["train.precision=f16", "train.steps=8", "train.checkpoint_every=4", "train.sample_every=0"]
    micro.train(tmp_path / "w", *overrides, code=143, before=BAD_BATCHES.format([1, 2]) + stop_after(4))
    assert float(final_arrays(tmp_path / "w")["train/scale"]) == 2.0**13
    micro.train(tmp_path / "w", *overrides)
    assert [row["scale"] for row in rows(tmp_path / "w") if "loss" in row] == [2.0**15] + [2.0**14] + [2.0**13] * 6


# 14, 15, 18: the data, through the command


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["0 training tokens"]),
        (b"ab" * 10, ["2 validation tokens, 17 needed for model.context=16"]),
        (
            b"\xef\xbb\xbfgood\r\n" * 50 + b"bad \xff byte\n" * 9,
            ["byte 454 is not UTF-8", "--config.data.errors=replace"],
        ),
    ],
)
def test_bad_text_is_refused_in_one_line(micro, tmp_path, says, content, parts):
    (tmp_path / "bad.txt").write_bytes(content)
    says(micro.train(tmp_path / "w", f"data.path={tmp_path}/bad.txt", code=2), "bad.txt", *parts)


@pytest.mark.long
def test_a_damaged_token_cache_is_reported_and_made_again(micro, clean, tmp_path, says):
    shutil.copytree(micro.folder / "cache", tmp_path / "cache", ignore=shutil.ignore_patterns("compiled"))
    for folder in (tmp_path / "cache" / "corpora").iterdir():
        tokens = np.load(folder / "train.npy")
        tokens[-1] = 200
        np.save(folder / "train.npy", tokens)
    done = micro.train(tmp_path / "w", JULIAGPT_CACHE=str(tmp_path / "cache"))
    says(done, "cached corpus refused and made again", "token id 200 in a vocabulary of 20")
    same(tmp_path / "w", clean)
