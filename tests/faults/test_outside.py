"""Faults met from outside, by a process as a user starts it: texts, archives, downloads, suites, memory, time. Those of
a run under way are in test_training.py; docs/reliability.md says where each of the 28 is."""

import contextlib
import http.server
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from juliagpt_jax.ground import sealed
from juliagpt_jax.store import checkpoint
from juliagpt_jax.training import metrics

ROOT = Path(__file__).parents[2]


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


# 13: malformed rows


def test_a_malformed_row_is_named_with_its_file_and_line(micro, tmp_path, says):
    rows = [json.dumps({"text": f"the line number {i}"}) for i in range(60)]
    rows[6] = '{"text": "the line",'
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    refused = micro.train(tmp_path / "w", f"data.path={tmp_path}/rows.jsonl", code=2)
    says(refused, "rows.jsonl:7: not JSON")
    assert not (tmp_path / "w" / "checkpoints").exists()


# 19: the same passage on both sides


def test_a_passage_of_both_sides_is_refused_over_the_limit(micro, tmp_path, says):
    lines = [f"the {word} of number and of line is one {word} truth" for word in map(hex, range(4_000, 4_090))]
    for side, own in (("train", lines), ("val", lines[:40])):
        (tmp_path / f"{side}.txt").write_text("\n".join(own) + "\n")
    refused = micro.train(tmp_path / "w", f"data.path={tmp_path}", code=2)
    says(refused, "of 40 validation passages 40 stand word for word", "--config.data.max_leak=")


# 20: out of memory


@pytest.mark.long
def test_a_batch_too_large_says_its_size_and_the_last_checkpoint_stays(micro, workdir, says):
    large = ["train.batch_size=400000", "model.width=1024", "train.accumulate=1", "mesh.data=1"]
    short = micro.train(workdir.parent / "large", *large, code=4, timeout=300)
    line = short.err.splitlines()[-1]
    assert re.search(
        r"out of memory: .* \d{11,} bytes, with layers 1, width 1,024, batch_size 400,000, context 16;", line
    )
    assert all(way in line for way in ("train.accumulate", "train.remat=true", "train.batch_size")), line
    # in a run that has checkpoints: an evaluation that finds no room
    eating = """
from juliagpt_jax.training import events
def evaluate(self, state):
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99999999999 bytes.")
events.Events.evaluate = evaluate
"""
    (workdir / "DONE").unlink()
    for step in ("30", "40"):
        shutil.rmtree(workdir / "checkpoints" / step)
    says(micro.train(workdir, code=4, before=eating), "out of memory: RESOURCE_EXHAUSTED", "width 16")
    checkpoint.verify(workdir / "checkpoints" / "20")


# 22: archives that lead out or swell


@pytest.mark.parametrize("name", ["../a.txt", "/tmp/a.txt"])
def test_an_archive_that_leads_out_is_refused(micro, tmp_path, name, says):
    (tmp_path / "in.zip").write_bytes(zipped({name: b"the nature of number " * 90}))
    done = micro.run("prepare", f"--source={tmp_path}/in.zip", f"--out={tmp_path}/out", "--jobs=1")
    assert done.returncode == 2
    says(done, f"in.zip: '{name}' leads out of the archive")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zip"], "nothing is written anywhere"


def test_a_bomb_is_refused_and_memory_stays_flat(micro, tmp_path):
    """300 MB in 300 kB: the process says at its end what it took at most."""
    (tmp_path / "in.zip").write_bytes(zipped({"a.txt": b"\0" * (300 << 20)}))
    # Its own: getrusage's is that of the process that started it, where this was larger.
    most = "import atexit, os, re\n"
    most += "peak = lambda: re.search(r'VmHWM:\\s+([0-9]+)', open('/proc/self/status').read())[1]\n"
    most += "atexit.register(lambda: os.write(1, peak().encode() + b'\\n'))"
    flags = [f"--source={tmp_path}/in.zip", f"--out={tmp_path}/out", "--jobs=1", "--max_file_bytes=1000000"]
    done = micro.run("prepare", *flags, before=most)
    assert done.returncode == 2 and "more than 1,000,000 bytes once unpacked" in done.err, done.err
    assert int(done.out.split()[-1]) >> 10 < 250, "megabytes"


# 23: downloads


class Half(http.server.BaseHTTPRequestHandler):
    """Answers with half of what it promises, an error, or a page in the place of a file."""

    how = "half"

    def do_GET(self):
        body = b"<html>sign in</html>" if self.how == "page" else b"x" * 1_000
        self.send_response(500 if self.how == "error" else 200)
        self.send_header("Content-Length", str(len(body) * (2 if self.how == "half" else 1)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.long
@pytest.mark.parametrize("how, code", [("half", 4), ("error", 4), ("page", 4)])
def test_a_download_that_is_not_the_file_leaves_nothing(micro, tmp_path, how, code):
    quick = "import time\ntime.sleep = lambda _: None"  # the pauses between tries
    Half.how = how
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Half) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        mirror = f"--mirror=http://127.0.0.1:{server.server_address[1]}"
        flags = ["--source=wikitext2", f"--out={tmp_path}/out", mirror, "--timeout=1"]
        done = micro.run("prepare", *flags, before=quick, JULIAGPT_CACHE=str(tmp_path / "cache"))
        server.shutdown()
        thread.join()
    assert done.returncode == code and done.err.count("\n") == 1, done.err
    assert not (tmp_path / "out").exists()
    left = [p for p in (tmp_path / "cache" / "sources").rglob("*") if p.is_file() and p.suffix != ".part"]
    assert left == []


# 24: compilation


@pytest.mark.long
def test_a_run_compiles_its_step_once(micro, tmp_path):
    """By JAX's own log, with evaluations, saves and samples in between; the report says the same."""
    done = micro.train(tmp_path / "w", JAX_LOG_COMPILES="1", JULIAGPT_CACHE=str(tmp_path / "cache"), XLA_FLAGS="")
    compiled = re.findall(r"Finished XLA compilation of jit\((\w+)\)", done.err)
    report = json.loads((tmp_path / "w" / "report.json").read_text())["compilations"]
    steps = [name for name in compiled if "step" in name]
    assert len(steps) == 1 == report["train"] == report["eval"], (steps, report)
    assert report["decode"] <= 2  # prompts are read by one program for each bucket of lengths


# 26: suites

SUITE = """
from juliagpt_jax.study.suite import Arm, Suite
def get_suite(scale):
    arms = {{"bad": Arm({{"train.lr": 1e30, "train.max_bad_steps": 2}}), "baseline": Arm()}}
    return Suite(config="{root}/configs/micro.py", common={common}, arms=arms, seeds=(1,), baseline="baseline")
"""


@pytest.mark.long
def test_a_cell_that_fails_leaves_the_others_and_only_it_runs_again(micro, tmp_path):
    common = dict(flag.removeprefix("--config.").split("=", 1) for flag in micro.flags)
    common = {key: value if key == "data.path" else json.loads(value) for key, value in common.items()}
    common |= {"train.steps": 12, "train.sample_every": 0}
    (tmp_path / "suite.py").write_text(SUITE.format(root=ROOT, common=common))
    flags = [f"--suite={tmp_path}/suite.py", f"--out={tmp_path}/out", "--keep"]
    failed = micro.run("ablate", *flags, timeout=300)
    assert failed.returncode != 0 and "1 of 2 cells failed" in failed.err
    rows = {row["arm"]: row for row in sealed.read_rows(tmp_path / "out" / "results.jsonl")}
    assert (rows["bad"]["status"], rows["baseline"]["status"]) == ("FAILED", "done")
    assert "not finite" in rows["bad"]["error"] and "FAILED" in (tmp_path / "out" / "table.md").read_text()
    again = micro.run("ablate", *flags, timeout=300)
    assert "2 cells, 1 to run" in again.out


# 28: two thousand steps


@pytest.mark.long
def test_memory_and_open_files_stay_flat(micro, tmp_path):
    """2,000 steps with 20 saves and evaluations, seen from outside; experiments/reliability/endurance.py does more."""
    overrides = ["train.steps=2000", "train.checkpoint_every=100", "train.eval_every=100", "train.log_every=50"]
    process = micro.start("main", *micro.training(tmp_path / "w", *overrides, "train.sample_every=0"))
    process.stdout.close()
    log, seen = tmp_path / "w" / "metrics.jsonl", []
    while process.poll() is None:
        with contextlib.suppress(OSError, TypeError):  # it may be gone between two looks
            status = Path(f"/proc/{process.pid}/status").read_text()
            kilobytes, threads = (int(re.search(rf"^{n}:\s+(\d+)", status, re.M)[1]) for n in ("VmRSS", "Threads"))
            rows = log.read_bytes().count(b"\n") if log.exists() else 0
            seen.append((rows, kilobytes >> 10, len(os.listdir(f"/proc/{process.pid}/fd")), threads))
        time.sleep(0.05)
    assert process.wait() == 0, process.stderr.read()
    process.stderr.close()
    total = max(rows for rows, *_ in seen)
    middle = [s for s in seen if 0.25 * total <= s[0] < 0.5 * total]
    late = [s for s in seen if 0.75 * total <= s[0] < total]
    assert len(middle) > 2 and len(late) > 2
    usual = lambda part, what: statistics.median(s[what] for s in part)  # a save under way has more files and threads
    assert usual(late, 1) < usual(middle, 1) + 20, "megabytes"
    assert usual(late, 2) <= usual(middle, 2) + 2 and usual(late, 3) <= usual(middle, 3) + 2, "open files, threads"


# The flag that promises more.


@pytest.mark.long
def test_a_deterministic_run_has_the_same_bits_on_one_core_and_on_two(micro, tmp_path):
    """Matrices large enough to be cut for threads, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("needs two cores")
    large = ["model.width=384", "model.heads=3", "model.context=128", "train.steps=8", "train.warmup=1"]
    rows = []
    for own in (cores[:1], cores[:2]):
        workdir = tmp_path / str(len(own))
        pinned = f"import os; os.sched_setaffinity(0, {own})"
        more = ["train.sample_every=0", "train.eval_windows=2", "train.log_every=1", "--deterministic"]
        micro.train(workdir, *large, *more, before=pinned, timeout=300)
        lines = metrics.read(workdir / "metrics.jsonl")
        rows.append([{k: v for k, v in row.items() if k not in metrics.TIMING} for row in lines])
    assert rows[0] == rows[1] and all(row["grad_norm"] > 0 for row in rows[0] if "grad_norm" in row)


@pytest.mark.long
@pytest.mark.parametrize("devices", [1, 2])
def test_a_delta_rule_is_not_waited_for_for_ever(micro, tmp_path, devices):
    """By chunks of 64 its first step never ended on two devices, at this width; two threads of one are to end, too."""
    shape = ["model.mixer=kda kda kda attention", "model.positions=none", "model.layers=4", "model.width=192"]
    shape += ["model.heads=3", "model.context=128", "train.batch_size=8", f"mesh.data={devices}"]
    shape += ["train.steps=4", "train.warmup=0", "train.sample_every=0", "train.eval_every=4"]
    micro.train(tmp_path / "w", *shape, timeout=240)


def test_deterministic_replaces_what_the_environment_says():
    """In a process, since XLA reads it once."""
    code = """
import os
os.environ["XLA_FLAGS"] = "--xla_gpu_deterministic_ops=false --xla_force_host_platform_device_count=2 --xla_foo=1"
from juliagpt_jax.ground import devices
from juliagpt_jax.ground import config_file
for more in ([], ["mesh.deterministic=true"]):
    devices.prepare(config_file.load("configs/base.py", more))
    print(os.environ.get("NPROC"), os.environ["XLA_FLAGS"], sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    before, free, after, held = done.stdout.splitlines()
    assert free == "--xla_gpu_deterministic_ops=false --xla_force_host_platform_device_count=2 --xla_foo=1"
    assert set(held.split()) == {
        "--xla_foo=1",
        "--xla_force_host_platform_device_count=1",
        "--xla_gpu_deterministic_ops=true",
    }
    assert (before, after) == ("None", "1")


@pytest.fixture
def workdir(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "run", symlinks=True)
    return tmp_path / "run"
