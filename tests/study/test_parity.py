"""The baseline is the same model in PyTorch: number by number, and in what training makes of it."""

import dataclasses
import itertools
import json
import math
import sys

import jax
import numpy as np
import pytest

from juliagpt_jax import parity as command
from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.study import parity, parity_page
from juliagpt_jax.study.statistics import Difference, paired
from juliagpt_jax.training import schedules
from juliagpt_jax.training.state import initial_state


@pytest.fixture(scope="module")
def make(tiny, micro):
    pytest.importorskip("torch")

    def made(*overrides):
        settings = tiny(f"data.path={micro.text}", "train.lr=0.01", "train.weight_decay=0.5", *overrides)
        return parity.Pair(settings, corpora.load(settings.data, settings.model.context))

    return made


@pytest.fixture(scope="module")
def pair(make):
    return make()


def start(pair):
    return {path: np.asarray(leaf) for path, leaf in paths(pair.jax_state(3).params).items()}


@pytest.fixture(scope="module")
def first(pair):
    """Batches of a run and what JAX makes of them."""
    batches = list(itertools.islice(pair.batches(3), parity.STEPS))
    return batches, parity.jax_side(pair, pair.jax_state(3), batches)


def agree(rows, names):
    assert {row["what"] for row in rows} == set(parity.TOLERANCES)
    assert {row["tensor"] for row in rows if row["what"] == "gradient"} == set(names)
    assert [row for row in rows if not row["agrees"]] == []
    for row in rows:
        assert 0 <= row["difference"] < max(5 * row["rounding"], 1e-6), row


def test_every_tensor_agrees(pair, first):
    batches, ours = first
    theirs = (parity.torch_side(pair, start(pair), batches, double) for double in (False, True))
    agree(parity.compare(ours, *theirs), start(pair))


def test_with_every_switch_of_the_baseline(make):
    """Grouped heads, an untied head, and a run that is over before the ten steps are."""
    switches = ["model.heads=4", "model.kv_heads=2", "model.tie=false", "model.norm_eps=1e-3", "model.rope_base=100.0"]
    pair = make(*switches, "train.clip=0.1", "train.steps=8", "train.accumulate=2")
    agree(parity.same(pair, 3), start(pair))


@pytest.mark.parametrize("what", ["eps", "decay", "clip", "rate", "weights"])
def test_another_recipe_does_not_agree(what, pair, first, monkeypatch):
    """The tolerances bite: each part of the step, when it is another one, is seen."""
    gpt, trainer = pair.torch, pair.torch.Trainer
    batches, ours = first
    given = start(pair)

    def other(settings, model):
        made = trainer(settings, model)
        if what == "decay":
            made.optimizer.param_groups[1]["weight_decay"] = 0.5
        return made

    monkeypatch.setattr(gpt, "Trainer", other)
    if what == "eps":
        monkeypatch.setattr(gpt, "EPS", 1e-5)
    if what == "clip":
        monkeypatch.setattr(gpt.nn.utils, "clip_grad_norm_", lambda weights, limit: None)
    if what == "rate":
        monkeypatch.setattr(gpt, "learning_rate", lambda settings, step: schedules_of(settings)(step + 1))
    if what == "weights":
        given["embedding"] = given["embedding"] * (1 + 1e-4)
    theirs = parity.torch_side(pair, given, batches, False)
    apart = {row["what"] for row in parity.compare(ours, theirs, theirs) if not row["agrees"]}
    steps = f"{parity.STEPS} steps"
    assert apart - {steps} == {"logits", "loss", "gradient"} if what == "weights" else apart == {steps}


def schedules_of(settings):
    rate = schedules.learning_rate(settings)
    return lambda step: float(rate(step))


@pytest.mark.parametrize("schedule", schedules.SCHEDULES)
def test_the_same_learning_rates(schedule, tiny):
    torch_gpt = pytest.importorskip("juliagpt_jax.study.torch_gpt", exc_type=ImportError)
    settings = tiny(f"train.schedule={schedule}", "train.decay_share=0.3", "train.warmup=5")
    ours = schedules_of(settings)
    rates = [torch_gpt.learning_rate(settings, step) for step in range(20)]
    np.testing.assert_allclose(rates, [ours(step) for step in range(20)], rtol=1e-5)


def test_initial_weights_have_the_same_spread(pair):
    ours, theirs = paths(pair.jax_state(0).params), pair.torch_params(pair.torch_model(0))
    assert set(ours) == set(theirs)
    for path, leaf in ours.items():
        assert theirs[path].shape == leaf.shape
        if leaf.ndim == 1:
            np.testing.assert_array_equal(theirs[path], leaf)
        else:
            np.testing.assert_allclose(theirs[path].std(), np.asarray(leaf).std(), rtol=5 / math.sqrt(leaf.size))
            assert abs(np.corrcoef(theirs[path].ravel(), np.asarray(leaf).ravel())[0, 1]) < 5 / math.sqrt(leaf.size)


def test_training_from_the_same_weights_ends_at_the_same_loss(pair):
    found = {arm: parity.train(pair, arm, 1) for arm in parity.ARMS}
    losses = {arm: row["loss"] for arm, row in found.items()}
    assert losses["jax"] == pytest.approx(losses["torch given"], abs=1e-4)
    assert 1e-4 < abs(losses["torch"] - losses["jax"]) < 0.5
    assert losses["jax"] < math.log(pair.vocab) - 0.1  # it has learned something
    assert found["jax"]["perplexity"] == pytest.approx(math.exp(losses["jax"]))


def test_both_sides_score_alike(pair):
    model = pair.torch_model(5)
    assert parity.torch_loss(pair, model) == pytest.approx(parity.jax_loss(pair, pair.torch_params(model)), abs=1e-6)


def test_seeds_have_their_own_batches_and_weights(pair):
    inputs = [next(pair.batches(seed))[0] for seed in (1, 1, 2)]
    assert (inputs[0] == inputs[1]).all() and (inputs[0] != inputs[2]).any()
    weights = [pair.jax_state(seed).params["embedding"] for seed in (1, 1, 2)]
    assert (weights[0] == weights[1]).all() and (weights[0] != weights[2]).all()


def test_the_initial_weights_are_those_of_main(pair):
    settings = dataclasses.replace(pair.settings, seed=3)
    ours = jax.jit(lambda: initial_state(settings, pair.model).params)()
    for path, leaf in paths(ours).items():
        np.testing.assert_allclose(start(pair)[path], leaf, atol=1e-6)


def test_the_command_writes_a_page_and_goes_on(micro, tmp_path):
    pytest.importorskip("torch")
    flags = [*micro.flags, "--config.train.steps=6", "--config.train.warmup=2", "--config.mesh.data=1"]
    arguments = ["--config=configs/micro.py", f"--out={tmp_path}", *flags, "--seeds=2", "--rounds=1", "--json"]
    done = micro.run("parity", *arguments, timeout=300)
    assert done.returncode == 0, done.err
    assert "6 runs of 6 steps to do" in done.out
    values = json.loads(done.out.splitlines()[-1])
    assert values == sealed.read_json(tmp_path / "parity.json")
    assert set(values) >= {"same", "trained", "speed", "versions", "machine"}
    assert len(values["speed"]["eager"]["ratios"]) == 1 and values["speed"]["eager"]["jax"][0] > 0
    rows = parity.Results(tmp_path / "runs.jsonl", values["recipe"])
    assert rows.missing(2) == [] and rows.missing(3) == [(arm, 3) for arm in parity.ARMS]
    page = (tmp_path / "parity.md").read_text()
    for part in ["All 24 tensors agree", "JAX's initial weights", "tokens/s", "--config.train.steps=6"]:
        assert part in page


# What needs no PyTorch.


@pytest.mark.parametrize(
    "override",
    ["model.mixer=monarch", "model.dropout=0.1", "model.qk_norm=true", "train.optimizer=muon", "train.ema=0.9"],
)
def test_only_the_baseline_is_compared(override, tiny):
    parity.check(tiny())
    with pytest.raises(UserError, match=override.split("=")[0]):
        parity.check(tiny(override))


def test_without_pytorch_the_command_says_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "juliagpt_jax.study.torch_gpt", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delattr("juliagpt_jax.study.torch_gpt", raising=False)
    with pytest.raises(UserError, match=r"pip install 'juliagpt-jax\[torch\]'"):
        parity.import_torch()


def test_results_keep_what_is_done(tmp_path):
    file = tmp_path / "runs.jsonl"
    results = parity.Results(file, "this")
    assert len(results.missing(2)) == 2 * len(parity.ARMS)
    results.add({"arm": "jax", "seed": 2, "loss": 1.5})
    again = parity.Results(file, "this")
    assert again.rows == results.rows and len(again.missing(2)) == 2 * len(parity.ARMS) - 1
    assert ("jax", 2) not in again.missing(2)
    assert parity.Results(file, "another text, or another version").rows == []
    whole = file.read_text()
    for damaged in ('{"arm": "jax"', whole.replace("1.5", "1.6"), whole + '{"arm": "jax"}\n'):
        file.write_text(damaged)
        with pytest.raises(StorageError, match=r"runs\.jsonl"):
            parity.Results(file, "this")


def test_what_was_measured_is_held_to_its_hash(tmp_path):
    path = tmp_path / "parity.json"
    sealed.write_json(path, {"recipe": "this", "speed": {"eager": {"jax": [1.5]}}, "machine": "one"})
    assert command._read(path, "this") == {"speed": {"eager": {"jax": [1.5]}}}
    assert command._read(path, "another") == {}
    path.write_text(path.read_text().replace("1.5", "2.5"))
    with pytest.raises(StorageError, match=r"parity\.json: damaged \(changed since it was written\); remove it"):
        command._read(path, "this")


def losses(*gaps):
    """Rows of PyTorch at loss 1, 2, ... and of JAX so much above."""
    torch = [{"arm": arm, "seed": s, "loss": float(s)} for arm in parity.ARMS for s in range(1, len(gaps) + 1)]
    return [row | {"loss": row["loss"] + gaps[row["seed"] - 1] * (row["arm"] == "jax")} for row in torch]


def test_the_ratio_is_paired_by_seed():
    gap = parity_page.gaps(losses(0.001, 0.002, 0.003))["torch"]
    assert gap == paired({1: 1.0, 2: 2.0, 3: 3.0}, {1: 1.001, 2: 2.002, 3: 3.003})
    assert gap.mean == pytest.approx(0.002) and gap.n == 3


@pytest.mark.parametrize(
    "low, high, says",
    [
        (-0.004, 0.004, "the same within 0.5%"),
        (0.001, 0.0049, "the same within 0.5%"),
        (0.006, 0.02, "not the same within 0.5%"),
        (-0.03, -0.006, "not the same within 0.5%"),
        (-0.01, 0.01, "12 seeds would tell"),
        (-0.001, 0.02, "open: the interval reaches beyond 0.5%"),
        (math.nan, math.nan, "too few"),
    ],
)
def test_the_verdict_follows_the_interval(low, high, says):
    assert parity_page.verdict(Difference((low + high) / 2, low, high, 0.5, 3)).endswith(says) or says == "too few"
    if math.isnan(low):
        assert says in parity_page.verdict(Difference(0.0, low, high, low, 1))
