"""Several models as one, beside sums written out; and which do not go together."""

import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.evaluation import ensemble
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.scoring import score_text
from juliagpt_jax.models.build import build_model

TOKENIZER = CharTokenizer.train("abcdefghij")
TEXT = np.random.default_rng(0).integers(10, size=70).astype(np.int32)


def member(config, seed, tokenizer=TOKENIZER):
    model = build_model(config, 10)
    params = model.init(jax.random.key(seed), jnp.zeros((1, 2), int))["params"]
    params |= {"embedding": params["embedding"] * 8}  # predictions that differ
    run = types.SimpleNamespace(workdir=Path(f"runs/{seed}"))
    return types.SimpleNamespace(model=model, params=params, tokenizer=tokenizer, run=run)


def small(tiny, *more):
    return tiny("model.layers=1", "model.width=16", *more)


def naive(members, context, stride):
    """Mean losses token by token: of each member, of mean probabilities, of mean logits."""
    text, losses, seen = np.concatenate([[TOKENIZER.lead], TEXT]), [], 0
    for start in range(0, len(TEXT), stride):
        window = text[start : start + context + 1]
        logits = np.stack([m.model.apply({"params": m.params}, window[None, :-1])[0][0] for m in members])
        log = lambda z: np.asarray(jax.nn.log_softmax(z), np.float64)
        mixed = np.log(np.exp(log(logits)).mean(axis=0))
        for i in range(len(window) - 1):
            if start + i >= seen:
                target = window[i + 1]
                losses.append([*-log(logits)[:, i, target], -mixed[i, target], -log(logits.mean(axis=0))[i, target]])
        seen = max(seen, start + len(window) - 1)
        if seen == len(TEXT):
            break
    assert len(losses) == len(TEXT)
    return np.mean(losses, axis=0)


@pytest.mark.parametrize("alike", [True, False], ids=["stacked", "of two forms"])
def test_means_of_probabilities_and_of_logits(alike, tiny, monkeypatch):
    other = [] if alike else ["model.channel=relu2"]
    members = [member(small(tiny), 1), member(small(tiny, *other), 2), member(small(tiny), 3)]
    monkeypatch.setattr(ensemble, "LOGITS", 3 * 16 * 10 * 2)  # two windows at a time, of an odd number
    score = score_text(members[0].model, members[0].params, TEXT, TOKENIZER.lead)
    found = ensemble.measure(members, TEXT, score, TOKENIZER.lead)
    assert found["stacked"] == alike and [one["workdir"] for one in found["members"]] == [
        f"runs/{i}" for i in (1, 2, 3)
    ]
    got = [one["loss"] for one in found["members"]] + [found[way]["loss"] for way in ensemble.WAYS]
    np.testing.assert_allclose(got, naive(members, 16, 8), rtol=1e-5)
    assert got[0] == pytest.approx(score.loss, rel=1e-6)
    assert got[3] < np.mean(got[:3]) - 0.01, "by Jensen's inequality; the members differ"
    assert found["probabilities"]["perplexity"] == pytest.approx(np.exp(got[3]))
    assert set(found["members"][0]) == {"workdir", *score.to_dict()}
    table = ensemble.describe(found)
    assert f"{np.exp(got[3]):.4f}" in table and "mean of probabilities, 3 models" in table and "runs/2" in table


def test_a_model_with_itself_is_itself(tiny):
    one = member(small(tiny), 4)
    score = score_text(one.model, one.params, TEXT, TOKENIZER.lead, 16)
    found = ensemble.measure([one, one], TEXT, score, TOKENIZER.lead)
    for way in ensemble.WAYS:
        assert found[way]["loss"] == pytest.approx(score.loss, rel=1e-6)


def test_models_that_do_not_go_together(tiny):
    one = member(small(tiny), 1)
    with pytest.raises(UserError, match=r"--ensemble: runs/2 has another tokenizer than runs/1"):
        ensemble.check([one, member(small(tiny), 2, CharTokenizer.train("abcdefghik"))], 16)
    with pytest.raises(UserError, match=r"--ensemble: runs/3 reads 8 tokens at most, and windows have 16"):
        ensemble.check([one, member(small(tiny, "model.context=8"), 3)], 16)
