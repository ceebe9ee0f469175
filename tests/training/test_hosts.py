"""Two processes train one model over the loopback: the same numbers in both, one writer, a common end."""

import json
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

FLAGS = ("mesh.data=2", "train.accumulate=1", "train.sample_every=0")


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(micro, workdir, *overrides, environment=None):
    """Both processes of a run, each with one device. Followers print their losses, too."""
    tell = """
from juliagpt_jax.training import events
import os
whole = events.Events._note
def note(self, step, values, now):
    os.write(2, f"loss {step} {values['loss']!r}\\n".encode())
    whole(self, step, values, now)
events.Events._note = note
"""
    address = f"--coordinator=127.0.0.1:{port()}"
    own = {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"} | (environment or {})
    return [
        micro.start(
            "main",
            *micro.training(workdir, *FLAGS, *overrides),
            "--hosts=2",
            f"--host={rank}",
            address,
            before=tell,
            **own,
        )
        for rank in (0, 1)
    ]


def ended(processes, timeout=240):
    """[(exit code, stdout, stderr)] of processes that end by themselves."""
    found = []
    for process in processes:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        found.append((process.returncode, out, err))
    return found


def losses(err: str) -> list[str]:
    return re.findall(r"^loss .*$", err, re.MULTILINE)


def rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("tokens_per_s", "step_s", "mfu")} for line in lines]


@pytest.mark.long
def test_two_hosts_train_one_model(micro, tmp_path):
    """Both see the same losses, those of one process with two devices; the leader alone writes; and a run goes on where
    it stopped, on one host as well."""
    (zero, out, err), (one, silent, other) = ended(start(micro, tmp_path / "two"))
    assert (zero, one) == (0, 0), err + other
    assert len(losses(err)) == 40 and losses(err) == losses(other)
    assert "report.json" in out and all(line.startswith("[Gloo]") for line in silent.splitlines()), "one speaks"
    assert (tmp_path / "two" / "DONE").exists() and os.listdir(tmp_path) == ["two"]
    micro.train(tmp_path / "alone", *FLAGS)
    for two, alone in zip(rows(tmp_path / "two"), rows(tmp_path / "alone"), strict=True):
        assert two == pytest.approx(alone, rel=1e-4, abs=1e-4)

    whole = tmp_path / "two"
    shutil.copytree(whole, tmp_path / "cut", symlinks=True)
    for step in (30, 40):
        shutil.rmtree(tmp_path / "cut" / "checkpoints" / str(step))
    (tmp_path / "cut" / "DONE").unlink()
    shutil.copytree(tmp_path / "cut", tmp_path / "one", symlinks=True)
    results = ended(start(micro, tmp_path / "cut"))
    assert [code for code, *_ in results] == [0, 0] and "going on after step 20" in results[0][1]
    assert len(losses(results[1][2])) == 20 and rows(tmp_path / "cut") == rows(whole)
    micro.train(tmp_path / "one", "mesh.data=1", "train.accumulate=1", "train.sample_every=0")
    assert rows(tmp_path / "one")[-1]["val_loss"] == pytest.approx(rows(whole)[-1]["val_loss"], abs=1e-4)


def until(path, process, seconds=120):
    begun = time.monotonic()
    while not path.exists():
        assert process.poll() is None and time.monotonic() - begun < seconds, process.communicate()
        time.sleep(0.1)


@pytest.mark.long
@pytest.mark.parametrize(("gone", "how"), [(0, "SIGKILL"), (1, "SIGKILL"), (1, "SIGSTOP")])
def test_a_host_that_is_gone_ends_the_other(gone, how, micro, tmp_path):
    """In bounded time, with one line and exit code 4. One that only stands still keeps its connections, and is missed
    by its signs of life alone: before the 30 s after which a sum over devices gives up."""
    long = ("train.steps=100000", "train.checkpoint_every=20", "train.log_every=1000")
    processes = start(micro, tmp_path / "run", *long, environment={"JULIAGPT_HOST_LOST": "10"})
    until(tmp_path / "run" / "checkpoints" / "20", processes[0])
    pid = processes[gone].pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()  # which end with it, not stop
    for one in (pid, *map(int, children)) if how == "SIGSTOP" else (pid,):
        os.kill(one, signal.Signals[how])
    begun = time.monotonic()
    (code, _, err), *_ = ended([processes[1 - gone]], timeout=60)
    seconds = time.monotonic() - begun
    processes[gone].kill()
    processes[gone].communicate()
    assert seconds < (40 if how == "SIGKILL" else 25)
    said = [line for line in err.splitlines() if not line.startswith(("loss ", "[Gloo]"))]
    assert code == 4 and len(said) == 1 and "another host of this run is gone" in said[0], err


@pytest.mark.long
def test_a_signal_to_one_host_stops_both(micro, tmp_path):
    """After the same step, with a checkpoint of it."""
    long = ("train.steps=100000", "train.checkpoint_every=20", "train.log_every=1000")
    processes = start(micro, tmp_path / "run", *long)
    until(tmp_path / "run" / "checkpoints" / "20", processes[0])
    processes[1].send_signal(signal.SIGTERM)
    found = ended(processes, timeout=60)
    assert [code for code, *_ in found] == [143, 143], found
    last = [losses(err)[-1] for *_, err in found]
    assert last[0] == last[1]
    newest = max(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit())
    assert last[0].startswith(f"loss {newest} ")


def test_what_says_who_they_are_is_held_to_sense(micro, tmp_path, says):
    for flags, said in [
        (["--hosts=2"], "give all three"),
        (["--hosts=2", "--host=2", "--coordinator=a:1"], "the second below the first"),
        (["--hosts=2", "--host=0", "--coordinator=nowhere"], "is no ADDRESS:PORT"),
    ]:
        process = micro.run("main", *micro.training(tmp_path / "run"), *flags)
        assert process.returncode == 2
        says(process, said)
