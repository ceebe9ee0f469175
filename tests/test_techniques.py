"""Data techniques as a user runs them: each by flags alone, killed in its middle and gone on with, to the bit."""

import json
import re

import jax
import numpy as np
import pytest

from juliagpt_jax.ground import config, config_file
from juliagpt_jax.store.checkpoint import read_meta
from juliagpt_jax.store.workdir import open_run
from juliagpt_jax.training import metrics


@pytest.fixture(scope="module")
def arguments(micro):
    """Flags of a micro model on a text in two phases, of which one is harder."""
    rng, folder = np.random.default_rng(0), micro.folder / "phases"
    folder.mkdir()
    words = {
        "easy": ["the", "line", "is", "one"],
        "hard": [f"{a}{b}{c}" for a in "aeiou" for b in "klmn" for c in "aeiou"],
    }
    for name, count in [("train", 300), ("val", 40)]:
        with open(folder / f"{name}_enriched.jsonl", "w") as file:
            for i in range(count):
                phase = ("easy", "hard")[i % 2]
                text = " ".join(rng.choice(words[phase], size=9))
                file.write(json.dumps({"text": text, "phase": phase, "difficulty": i / count}) + "\n")
    flags = [f for f in micro.flags if "data.path" not in f]
    return ["--config=configs/tiny.py", *flags, f"--config.data.path={folder}", "--config.data.max_leak=1"]


STOP = """
import os, signal
from juliagpt_jax.training import events
whole = events.Events.note
def note(self, step, *rest):
    whole(self, step, *rest)
    if step == 23 and self.config.train.objective == "doremi":
        os.kill(os.getpid(), signal.SIG{how})
events.Events.note = note
"""


@pytest.mark.slow
def test_the_command_and_a_kill_in_the_proxy(micro, arguments, tmp_path):
    """Killed in the middle of the proxy, the same command ends with the same weights to the bit; main takes them."""
    results = {}
    for name in ("clean", "killed"):
        flags = [*arguments, f"--workdir={tmp_path / name}", "--json"]
        if name == "killed":
            first = micro.run("doremi", *flags, before=STOP.format(how="KILL"))
            assert first.returncode == -9 and (tmp_path / "killed" / "reference" / "DONE").exists()
            assert not (tmp_path / "killed" / "weights.json").exists()
        done = micro.run("doremi", *flags)
        assert done.returncode == 0, done.err
        if name == "killed":
            assert "reference is done" in done.out and re.search("going on after step [12]0 of 40", done.out)
        results[name] = json.loads((tmp_path / name / "weights.json").read_text())
    assert results["clean"] == results["killed"]
    weights, drawn = results["clean"]["weights"], results["clean"]["drawn"]
    assert sum(weights.values()) == pytest.approx(1, abs=1e-5) and weights != drawn
    mean = np.mean([row["weight_hard"] for row in rows(tmp_path / "clean" / "proxy") if "weight_hard" in row])
    assert weights["hard"] == pytest.approx(mean, abs=1e-6), "the mean over all steps"
    assert read_meta(tmp_path / "clean" / "proxy" / "checkpoints" / "40")["tree"]["memo/whole/weights"] == "float32[2]"

    flag = f"--config.data.phase_weights={tmp_path / 'clean' / 'weights.json'}"
    process = micro.run("main", *arguments, f"--workdir={tmp_path / 'run'}", flag, "--json")
    report = json.loads(process.out.splitlines()[-1])
    assert f"shares drawn: easy {weights['easy']:.3f}" in process.out
    assert set(report["phases"]) == {"easy", "hard"}
    assert report["phases"]["easy"]["perplexity"] < report["phases"]["hard"]["perplexity"]
    total = sum(part["loss"] * part["characters"] for part in report["phases"].values())
    assert total / report["characters"] == pytest.approx(report["loss"], rel=1e-6)

    again = micro.run("doremi", *arguments, f"--workdir={tmp_path / 'clean'}")
    assert again.returncode == 0 and "proxy is done" in again.out
    refused = micro.run("doremi", *arguments, f"--workdir={tmp_path / 'clean'}", "--eta=2")
    assert refused.returncode == 2 and "train.doremi.eta: 1.0 -> 2.0" in refused.err
    (tmp_path / "clean" / "proxy" / "DONE").unlink()
    newest = tmp_path / "clean" / "reference" / "checkpoints" / "40"
    newest.rename(newest.with_name("40.gone"))
    refused = micro.run("doremi", *arguments, f"--workdir={tmp_path / 'clean'}")
    assert refused.returncode == 2 and "what config.train.objective reads is not what it was" in refused.err


def test_a_proxy_of_an_older_version(micro, arguments, tmp_path):
    """It cannot go on; one line says so before anything is trained."""
    (tmp_path / "proxy").mkdir()
    values = config.to_dict(config_file.load("configs/tiny.py"))
    for name in ("objective", "doremi"):
        del values["train"][name]
    (tmp_path / "proxy" / "config.json").write_text(json.dumps(values))
    process = micro.run("doremi", *arguments, f"--workdir={tmp_path}")
    assert process.returncode == 2 and process.err.count("\n") == 1, process.err
    assert "proxy is of an older version, whose DoReMi runs cannot go on" in process.err
    assert not (tmp_path / "reference").exists()


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--by=form_"], "no field 'form_'"),
        (["--smoothing=1"], "--smoothing=1.0 must be above 0 and below 1"),
        (["--config.train.objective=doremi"], "the reference learns next_token, and the proxy doremi; leave it out"),
        (["--config.data.filter=phase in easy"], "one phase alone, easy: there is nothing to weigh"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes_of_doremi(micro, arguments, tmp_path, says, flags):
    process = micro.run("doremi", *arguments, f"--workdir={tmp_path / 'w'}", *flags)
    assert process.returncode == 2 and says in process.err and process.err.count("\n") == 1, process.err
    assert not (tmp_path / "w" / "reference").exists()


KILL = """
import os, signal
from juliagpt_jax.training import events
whole = events.Events.note
def note(self, step, *rest):
    whole(self, step, *rest)
    if step == 23:
        os.kill(os.getpid(), signal.SIGKILL)
events.Events.note = note
"""


def rows(workdir) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k not in metrics.TIMING} for row in metrics.read(workdir / "metrics.jsonl")
    ]


@pytest.mark.slow
def test_killed_in_the_middle_of_a_curriculum(micro, arguments, tmp_path):
    """All techniques together: the same rows and weights to the bit. What the flags read must not have changed."""
    weights = tmp_path / "weights.json"
    weigh = lambda easy: weights.write_text(json.dumps({"by": "phase", "weights": {"easy": easy, "hard": 1}}))
    flags = [
        "--config.data.filter=difficulty < 0.9",
        "--config.data.keep=bottom 0.8 of difficulty",
        f"--config.data.phase_weights={weights}",
        "--config.data.order=interleaved",
        "--config.data.curriculum.pacing=root",
        "--config.data.curriculum.pacing_start=0.3",
        "--config.train.ngram.weight=0.2",
    ]
    run = lambda name, *more, **how: micro.run(
        "main", *arguments, *flags, *more, f"--workdir={tmp_path / name}", "--config.train.eval_every=20", **how
    )
    weigh(2)
    clean = run("clean")
    assert clean.returncode == 0, clean.err
    assert "216 of 300 training passages selected" in clean.out and "shares drawn: easy 0.667, hard 0.333" in clean.out
    assert run("killed", before=KILL).returncode == -9
    weigh(3)
    changed = run("killed")
    assert changed.returncode == 2 and "config.data.scores or .phase_weights read is not what it was" in changed.err
    weigh(2)
    for flag, says in [
        ("--config.data.order=easy_first", "data.order: 'interleaved' -> 'easy_first'"),
    ]:
        refused = run("killed", flag)
        assert refused.returncode == 2 and says in refused.err, refused.err
    again = run("killed", "--config.data.max_leak=0.9")
    assert again.returncode == 0 and re.search("going on after step [12]0 of 40", again.out), again.err
    assert rows(tmp_path / "killed") == rows(tmp_path / "clean")
    one, other = (jax.tree.leaves(open_run(tmp_path / name).params) for name in ("clean", "killed"))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    report = json.loads((tmp_path / "clean" / "report.json").read_text())
    values = micro.run("evaluate", f"--workdir={tmp_path / 'clean'}", "--json").out.splitlines()
    again = json.loads(values[-1])["phases"]
    assert set(again) == {"easy", "hard"}
    for name, part in report["phases"].items():
        assert again[name] == pytest.approx(part, rel=1e-6)
    assert any(line.startswith("perplexity: easy") for line in values)


@pytest.mark.parametrize(
    "flag, says",
    [
        ("data.filter=phase on easy", "config.data.filter: 'phase on easy' is no condition"),
        ("data.keep=top 0.5 of quality", "the passages have no field 'quality'"),
    ],
)
def test_mistakes_are_one_line(micro, arguments, tmp_path, says, flag):
    process = micro.run("main", *arguments, f"--config.{flag}", f"--workdir={tmp_path / 'w'}")
    assert process.returncode == 2 and says in process.err and process.err.count("\n") == 1, process.err
