"""Each checkpoint is measured once, also beside a run that removes it, and after a process that was killed."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from juliagpt_jax import evaluate
from juliagpt_jax.evaluation import every
from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import NumericalError, StorageError, UserError

HOW = {"seed": 0}


def checkpoint(workdir: Path, step: int) -> Path:
    """Make what stands for a checkpoint here: a folder with a manifest."""
    folder = workdir / "checkpoints" / str(step)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(f'{{"of": {step}}}')
    return folder


@pytest.fixture
def workdir(tmp_path):
    for step in (20, 10, 30):
        checkpoint(tmp_path, step)
    return tmp_path


def measure(step):
    return {
        "loss": 1 / step,
        "phases": {"trivium": {"loss": 2.0}},
        "exact": True,
        "what": "a text",
    }, f"loss {1 / step:.2f}"


def view(workdir: Path, how) -> list[tuple[int, str, float]]:
    """What TensorBoard has of the rows: step, name, number."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    (file,) = (workdir / every.VIEW / sealed.digest(how)[:8]).glob("events.out.tfevents.*")
    raw, found = file.read_bytes(), []
    while raw:
        size = int.from_bytes(raw[:8], "little")
        event = Event.FromString(raw[12 : 12 + size])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        raw = raw[16 + size :]
    return found


def test_each_once_oldest_first_and_only_what_is_new(workdir):
    said = []
    rows = every.run(workdir, measure, HOW, False, said.append)
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert said == ["step 10: loss 0.10", "step 20: loss 0.05", "step 30: loss 0.03"]
    assert sealed.read_rows(workdir / "evaluations.jsonl") == [
        {key: value for key, value in row.items() if key != "sha256"} for row in rows
    ]
    (workdir / "checkpoints" / "20" / "manifest.json").write_text('{"of": "another run"}')
    checkpoint(workdir, 40)
    (workdir / "checkpoints" / "50.partial").mkdir()
    (workdir / "checkpoints" / "60").mkdir()  # not whole
    said.clear()
    assert len(every.run(workdir, measure, HOW, False, said.append)) == 5
    assert [line.split(":")[0] for line in said] == ["step 20", "step 40"]
    other = every.run(workdir, measure, {"seed": 1}, False, said.append)
    assert len(other) == 4, "measured in another way, each is measured again"
    assert view(workdir, {"seed": 1}) == [
        (step, name, pytest.approx(value))
        for step in (10, 20, 30, 40)
        for name, value in [("loss", 1 / step), ("phases/trivium/loss", 2.0)]
    ]
    assert [step for step, name, _ in view(workdir, HOW) if name == "loss"] == [10, 20, 30, 20, 40]


def test_a_killed_process_leaves_no_half_row(workdir):
    """In the middle of a row, and between a row and its view."""
    every.run(workdir, measure, HOW, False, print)
    path = workdir / "evaluations.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:25])
    shutil.rmtree(workdir / every.VIEW)
    said = []
    rows = every.run(workdir, measure, HOW, False, said.append)
    assert said == ["step 30: loss 0.03"] and [row["step"] for row in rows] == [10, 20, 30]
    assert path.read_bytes() == b"".join(lines)
    assert [step for step, name, _ in view(workdir, HOW) if name == "loss"] == [10, 20, 30]
    path.write_bytes(b"".join(lines).replace(b'"loss": 0.1', b'"loss": 0.2', 1))
    with pytest.raises(StorageError, match=r"evaluations.jsonl:1: changed since it was written"):
        every.run(workdir, measure, HOW, False, print)


def test_one_process_at_a_time(workdir):
    with (
        every.Evaluations(workdir, HOW),
        pytest.raises(UserError, match=r"evaluations.jsonl is in use: another process"),
    ):
        every.run(workdir, measure, HOW, False, print)


def test_a_checkpoint_that_vanishes_is_passed_over_and_a_damaged_one_is_said(workdir):
    def sometimes(step):
        if step == 10:
            shutil.rmtree(workdir / "checkpoints" / "10")
            raise UserError("--checkpoint=10: it is newest, best, or one of 20, 30")
        if step == 20:
            raise StorageError("checkpoints/20: damaged: params/x has other bytes")
        return measure(step)

    said = []
    with pytest.raises(StorageError, match=r"checkpoints that could not be measured: 20$"):
        every.run(workdir, sometimes, HOW, False, said.append)
    assert said == [
        "step 10: the run removed it while it was read; passed over",
        "step 20: checkpoints/20: damaged: params/x has other bytes; passed over",
        "step 30: loss 0.03",
    ]

    def never(step):
        raise NumericalError("the loss is not finite")

    with pytest.raises(NumericalError, match=r"could not be measured: 20$"):
        every.run(workdir, never, HOW, False, print)
    with pytest.raises(UserError, match=r"lacks characters"):  # what is wrong with the text is wrong for all
        every.run(workdir, lambda step: (_ for _ in ()).throw(UserError("lacks characters")), HOW, False, print)


def test_following_a_run_to_its_end(workdir):
    """Checkpoints appear and go while it looks; what is written last, beside DONE, is measured, too."""
    said, seen = [], threading.Event()

    def trainer():
        seen.wait(20)
        shutil.rmtree(workdir / "checkpoints" / "10")
        checkpoint(workdir, 40)
        (workdir / "DONE").write_text("40 steps\n")

    def say(text):
        said.append(text)
        if text.startswith("waiting"):
            seen.set()

    thread = threading.Thread(target=trainer)
    thread.start()
    rows = every.run(workdir, measure, HOW, True, say, poll=0.01)
    thread.join()
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert said[3] == f"waiting for checkpoints of {workdir}; Ctrl-C ends this" and said[4] == "step 40: loss 0.03"


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--follow"], "--follow goes with --every"),
        (["--every", "--checkpoint=best"], "--checkpoint is of one checkpoint, and --every of all"),
        (["--every", "--baseline=kneser_ney"], "--baseline is of one checkpoint"),
        (["--every", "--written=0"], "--written is of one checkpoint"),
    ],
)
def test_flags_that_do_not_go_together(flags, says, tmp_path):
    with pytest.raises(UserError, match=says):
        evaluate.main(evaluate.parser().parse([f"--workdir={tmp_path}", *flags]))


# Real runs.


@pytest.mark.long
def test_a_run_of_text(micro, clean, tmp_path):
    """Killed when the first row is there, and run again: each kept checkpoint has one row, whose number is that of the
    same command for one checkpoint; the run's own files are as they were."""
    shutil.copytree(clean, tmp_path / "run", symlinks=True)
    path, flags = tmp_path / "run" / "evaluations.jsonl", [f"--workdir={tmp_path / 'run'}", "--every"]
    killed = micro.start("evaluate", *flags)
    while killed.poll() is None and not (path.exists() and b"\n" in path.read_bytes()):
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    begun = path.read_bytes()
    done = micro.run("evaluate", *flags, "--json")
    assert done.returncode == 0, done.err
    rows = json.loads(done.out.splitlines()[-1])["evaluations"]
    kept = sorted(int(p.name) for p in (clean / "checkpoints").iterdir() if p.name.isdecimal() and not p.is_symlink())
    assert [row["step"] for row in rows] == kept and len(kept) >= 3
    assert path.read_bytes().startswith(begun[: begun.rfind(b"\n") + 1])
    report = json.loads((clean / "report.json").read_text())
    assert rows[-1]["loss"] == pytest.approx(report["loss"], abs=1e-6)
    again = micro.run("evaluate", *flags)
    assert again.returncode == 0 and "step " not in again.out
    assert (tmp_path / "run" / "report.json").read_bytes() == (clean / "report.json").read_bytes()


@pytest.mark.long
def test_a_run_of_puzzles_is_followed_while_it_trains(micro, tmp_path):
    flags = ["data.puzzle.side=4", "data.puzzle.train=16", "data.puzzle.test=8", "data.puzzle.least=4"]
    flags += [
        "data.puzzle.most=9",
        "model.context=16",
        "model.width=8",
        "model.heads=1",
        "train.steps=12",
        "train.keep=1",
    ]
    flags += ["model.recursive.inner=1", "model.recursive.outer=1", "model.layers=1", "train.batch_size=8"]
    flags += ["train.checkpoint_every=3", "train.eval_every=3", "train.eval_windows=8", "train.warmup=2", "train.ema=0"]
    given = ["--config=configs/trm_sudoku6.py", f"--workdir={tmp_path / 'run'}", *(f"--config.{f}" for f in flags)]
    (tmp_path / "run").mkdir()
    trainer = micro.start("main", *given)
    try:
        followed = micro.run("evaluate", f"--workdir={tmp_path / 'run'}", "--every", "--follow", timeout=240)
        _, err = trainer.communicate(timeout=60)
    finally:
        trainer.kill()
    assert trainer.returncode == 0, err
    assert followed.returncode == 0, followed.err
    rows = sealed.read_rows(tmp_path / "run" / "evaluations.jsonl")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert rows[-1]["step"] == 12 and rows[-1]["solved"] == report["solved"]
    assert rows[-1]["loss"] == pytest.approx(report["loss"], rel=1e-5)


@pytest.mark.long
def test_a_run_of_examples_and_a_task(tiny, tmp_path):
    """What the run's own report says of its last weights; and a task's questions, which are another measurement."""
    from juliagpt_jax.training import run

    flags = ["data.task=addition", "model.width=16", "model.layers=1", "model.heads=1", "model.context=24"]
    flags += ["train.steps=6", "train.checkpoint_every=3", "train.eval_windows=8", "train.sample_every=0"]
    report = run.run(tiny(*flags, "data.examples.written=6"), tmp_path / "run", 0.0)
    measured = lambda *more: evaluate.main(evaluate.parser().parse([f"--workdir={tmp_path / 'run'}", "--every", *more]))
    for more in ([], ["--task=addition", "--limit=3", "--max_new_tokens=6"], []):
        measured(*more)
    rows = sealed.read_rows(tmp_path / "run" / "evaluations.jsonl")
    assert [(row["step"], "task" in row["how"]) for row in rows] == [(3, False), (6, False), (3, True), (6, True)]
    for name in ("loss", "right", "answered"):
        assert rows[1][name] == pytest.approx(report[name], abs=1e-6)
    assert rows[3]["questions"] == 3 and rows[3]["how"]["limit"] == 3 and 0 <= rows[3]["number"] <= 1
    with pytest.raises(UserError, match=r"--data: of models of texts; this one answers the dev examples of its run"):
        measured("--data=README.md")
