"""DoReMi: the update against the golden arrays, the weighted step, and the command with a stop in its middle."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax import devices
from juliagpt_jax.data.sampler import IGNORED
from juliagpt_jax.training import doremi, step
from juliagpt_jax.training.checkpoint import read_meta

VOCAB, T = 7, 16


def test_update_is_that_of_the_authors(golden):
    """Six updates: a domain that is absent keeps its score; the answer is the mean of the weights."""
    with np.load(golden / "doremi" / "doremi_update.npz") as wanted:
        arrays = dict(wanted)
    mixture = doremi.first_mixture(arrays["w0"], float(arrays["scores_init"][0]))
    assert any(len(set(ids)) < 5 for ids in arrays["domain_ids"].tolist()), "some domain is absent"
    assert (arrays["scores"] < 0).any(), "some tokens are clipped"
    for i, (excess, mask, domains) in enumerate(
        zip(arrays["scores"], arrays["mask"], arrays["domain_ids"], strict=True), 1
    ):
        mixture = doremi.update(mixture, excess, mask, domains, float(arrays["eta"]), float(arrays["eps"]))
        np.testing.assert_allclose(mixture["weights"], arrays["weights"][i - 1], rtol=2e-5)
        np.testing.assert_allclose(mixture["excess"], arrays["perdomain_scores"][i - 1], rtol=2e-5)
        np.testing.assert_allclose(mixture["sum"] / i, arrays["avg_weights"][i - 1], rtol=2e-5)


def test_rows_weigh_in_the_loss_and_its_gradient(tiny):
    """Equal weights of any size are no weights; a row of weight 0 is as if it were not scored; and cut in two."""
    rng = np.random.default_rng(0)
    text = rng.integers(VOCAB, size=(4, T + 1), dtype=np.int32)
    inputs, targets = text[:, :-1], text[:, 1:].copy()
    targets[1, 9:] = IGNORED

    def run(weights, targets, *flags):
        config = tiny("model.layers=1", "train.lr=0.01", "train.warmup=0", *flags)
        model = step.build(config, VOCAB)
        mesh = devices.make_mesh(config.mesh, config.train.batch_size // config.train.accumulate)
        function = step.make_train_step(config, model, mesh, weighted=weights is not None)
        column = None if weights is None else np.array(weights, np.float32)[:, None]
        state, metrics = function(
            step.initial_state(config, model), (inputs, targets if column is None else (targets, column))
        )
        return float(metrics["loss"]), float(metrics["grad_norm"]), jax.tree.leaves(state.params)

    def same(one, other):
        assert one[:2] == pytest.approx(other[:2], rel=1e-5)
        for a, b in zip(one[2], other[2], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)

    plain = run(None, targets)
    same(run([3.0] * 4, targets), plain)
    without = targets.copy()
    without[2:] = IGNORED
    same(run([2.0, 2.0, 0.0, 0.0], targets), run(None, without))
    uneven = run([1.0, 5.0, 0.5, 2.0], targets)
    assert uneven[0] != pytest.approx(plain[0], rel=1e-3)
    same(run([1.0, 5.0, 0.5, 2.0], targets, "train.accumulate=2", "mesh.data=2"), uneven)


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
from juliagpt_jax.training import doremi
whole = doremi.Proxy._note
def note(self, step, *rest):
    whole(self, step, *rest)
    if step == 23:
        os.kill(os.getpid(), signal.SIG{how})
doremi.Proxy._note = note
"""


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
    assert sum(weights.values()) == pytest.approx(1, abs=1e-5) and drawn["easy"] != pytest.approx(
        drawn["hard"], abs=0.05
    )
    rows = [json.loads(line) for line in open(tmp_path / "clean" / "proxy" / "metrics.jsonl")]
    mean = np.mean([row["weight_hard"] for row in rows if "weight_hard" in row])
    assert weights["hard"] == pytest.approx(mean, abs=1e-6), "the mean over all steps"
    assert read_meta(tmp_path / "clean" / "proxy" / "checkpoints" / "40")["tree"]["mixture/weights"] == "float32[2]"

    flag = f"--config.data.phase_weights={tmp_path / 'clean' / 'weights.json'}"
    process = micro.run("main", *arguments, f"--workdir={tmp_path / 'run'}", flag, "--json")
    report = json.loads(process.out.splitlines()[-1])
    assert f"shares drawn: easy {weights['easy']:.3f}" in process.out
    assert set(report["phases"]) == {"easy", "hard"}
    assert report["phases"]["easy"]["perplexity"] < report["phases"]["hard"]["perplexity"]
    total = sum(part["loss"] * part["characters"] for part in report["phases"].values())
    assert total / report["characters"] == pytest.approx(report["loss"], rel=1e-6)

    other = micro.run("doremi", *arguments, f"--workdir={tmp_path / 'clean'}", "--eta=2")
    assert other.returncode == 0 and "proxy is done" in other.out
    (tmp_path / "clean" / "proxy" / "DONE").unlink()
    refused = micro.run("doremi", *arguments, f"--workdir={tmp_path / 'clean'}", "--eta=2")
    assert refused.returncode == 2 and "the reference, --eta or --smoothing of doremi is not what it was" in refused.err


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--by=form_"], "no field 'form_'"),
        (["--eta=0"], "--eta=0.0 must be above 0"),
        (["--smoothing=1"], "--smoothing=1.0 must be above 0 and below 1"),
        (["--config.data.filter=phase in easy"], "one phase alone, easy: there is nothing to weigh"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes(micro, arguments, tmp_path, says, flags):
    process = micro.run("doremi", *arguments, f"--workdir={tmp_path / 'w'}", *flags)
    assert process.returncode == 2 and says in process.err and process.err.count("\n") == 1, process.err
    assert not (tmp_path / "w" / "reference").exists()


def test_an_excess_moves_the_weight():
    mixture = doremi.first_mixture(np.array([0.5, 0.5]), 0.0)
    excess = jnp.array([[1.0, -3.0], [0.0, 0.5]])
    moved = doremi.update(mixture, excess, jnp.ones((2, 2), bool), jnp.array([0, 1]), 1.0, 1e-4)
    np.testing.assert_allclose(moved["excess"], [0.5, 0.25])
    assert moved["weights"][0] > 0.55
