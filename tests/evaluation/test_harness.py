"""What lm-evaluation-harness asks, held to a forward pass of the whole text; with the harness itself in
tests/inference/test_outside.py."""

import functools
import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax import harness as command
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.evaluation import harness
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.scoring import score_text
from juliagpt_jax.models import precision
from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.store.workdir import open_run

TOKENIZER = CharTokenizer("\n abcdefgh")
CONTEXT = 16


@pytest.fixture(scope="module")
def adapter(tiny):
    model = Decoder(tiny("model.width=16", "model.layers=1", "model.heads=1").model, TOKENIZER.vocab_size)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    params = jax.tree.map(lambda p: 2 * p, params)  # sharper
    assert model.config.context == CONTEXT
    return harness.Adapter(model, params, TOKENIZER)


def ask(*rows):
    return [SimpleNamespace(args=row) for row in rows]


@functools.partial(jax.jit, static_argnums=0)
def forward(model, params, inputs):
    return model.apply({"params": params}, inputs)[0]


def log_probabilities(adapter, ids):
    """(len(ids) - 1, V): of every token behind the first, by one forward pass over at most a context."""
    inputs = np.zeros((1, CONTEXT), int)
    inputs[0, : len(ids) - 1] = ids[:-1]
    return np.asarray(jax.nn.log_softmax(forward(adapter.model, adapter.params, inputs)[0, : len(ids) - 1]))


def by_hand(adapter, context, continuation):
    """The text behind the lead token, as much of it as the model sees: its log-probability, and whether it is greedy's
    choice."""
    ids = np.concatenate([[TOKENIZER.lead], TOKENIZER.encode(context + continuation)])[-(CONTEXT + 1) :]
    table, own = log_probabilities(adapter, ids)[-len(continuation) :], ids[-len(continuation) :]
    return table[np.arange(len(own)), own].sum(), bool((table.argmax(1) == own).all())


def test_loglikelihood(adapter):
    """More requests than a batch has rows, of several lengths; an empty context; one longer than the model's."""
    rng = np.random.default_rng(0)
    draw = lambda n: "".join(rng.choice(list("abcdefgh "), n))
    rows = [(draw(rng.integers(0, 25)), draw(rng.integers(1, 8))) for _ in range(40)]
    rows += [("", "a"), ("abc", draw(CONTEXT)), (draw(100), draw(CONTEXT))]
    likeliest = lambda context: max("abcdefgh ", key=lambda c: by_hand(adapter, context, c)[0])
    rows += [(context, likeliest(context)) for context in ("abc", "hhh")]
    found = adapter.loglikelihood(ask(*rows))
    wanted = [by_hand(adapter, *row) for row in rows]
    np.testing.assert_allclose([f[0] for f in found], [w[0] for w in wanted], atol=1e-4)
    assert [f[1] for f in found] == [w[1] for w in wanted] and [f[1] for f in found][-2:] == [True, True]
    for bad in ("", "a" * (CONTEXT + 1)):
        with pytest.raises(UserError, match=r"the model takes 1 \.\. 16"):
            adapter.loglikelihood(ask(("a", bad)))


def test_loglikelihood_rolling(adapter):
    texts = ["a", "abcdefgh" * 9 + "\n"]
    found = adapter.loglikelihood_rolling(ask(*[(text,) for text in [*texts, ""]]))
    for text, value in zip(texts, found, strict=False):
        score = score_text(adapter.model, adapter.params, TOKENIZER.encode(text), TOKENIZER.lead)
        assert score.scored_tokens == len(text) and value == pytest.approx(-score.loss * len(text))
    assert found[0] == pytest.approx(by_hand(adapter, "", "a")[0], abs=1e-4) and found[2] == 0


def test_generate_until(adapter):
    greedy = adapter.generate_until(ask(("abc", {"max_gen_toks": 12}), ("hg", {"max_gen_toks": 12})))
    text = ""
    while len(text) < 12:
        ids = np.concatenate([[TOKENIZER.lead], TOKENIZER.encode("abc" + text + "a")])
        text += TOKENIZER.characters[log_probabilities(adapter, ids)[-1].argmax()]
    assert greedy[0] == text and len(greedy[1]) == 12
    stop = text[4:6]
    asked = [{"max_gen_toks": 12, "until": until} for until in (stop, [stop, "zz"], [], ["zz"])]
    cut = adapter.generate_until(ask(*[("abc", settings) for settings in asked]))
    assert cut == [text[: text.find(stop)]] * 2 + [text] * 2
    adapter.decoder = CharTokenizer(TOKENIZER.characters)
    adapter.decoder.stops = (TOKENIZER.characters.index(text[5]),)
    ended = adapter.generate_until(ask(("abc", {"max_gen_toks": 12}), ("abc", {"max_gen_toks": 3})))
    adapter.decoder = TOKENIZER
    assert ended == [text.partition(text[5])[0], text[:3].partition(text[5])[0]]
    drawn = {"max_gen_toks": 12, "do_sample": True, "temperature": 5.0}
    rows = adapter.generate_until(ask(("abc", drawn), ("abc", drawn)))
    assert rows[0] != rows[1] and rows == adapter.generate_until(ask(("abc", drawn), ("abc", drawn)))


def test_characters_the_tokenizer_lacks(adapter):
    with pytest.raises(UserError, match="'X'"):
        adapter.loglikelihood(ask(("aX", "b")))
    skipping = harness.Adapter(adapter.model, adapter.params, TOKENIZER, "skip")
    assert skipping.loglikelihood(ask(("aX", "b"))) == adapter.loglikelihood(ask(("a", "b")))


@pytest.mark.long
def test_the_command_takes_every_precision(clean, monkeypatch, capsys):
    """What an adapter says of the model that `precision.prepare` gives; without the harness, which asks no more."""
    asked = ask(("the nature", " of"), ("", "truth"))
    answers = lambda adapter, *_: {"task": dict(enumerate(value for value, _ in adapter.loglikelihood(asked)))}
    monkeypatch.setattr(harness, "run_tasks", answers)
    run, seen = open_run(clean), {}
    for word in ("f32", "int8"):
        flags = [f"--workdir={clean}", "--tasks=task", f"--precision={word}", "--json"]
        command.main(command.parser().parse(flags))
        seen[word] = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]["task"]
        wanted = harness.Adapter(*precision.prepare(run.model, run.params, word), run.tokenizer)
        assert list(seen[word].values()) == list(answers(wanted)["task"].values())
    apart = [abs(seen["f32"][key] - seen["int8"][key]) for key in seen["f32"]]
    assert 0 < max(apart) < 0.5, "rounded, and not another model"
    with pytest.raises(UserError, match=r"was trained with model\.linear=dense"):
        command.main(command.parser().parse([f"--workdir={clean}", "--tasks=task", "--precision=ternary"]))


def test_without_the_harness(adapter, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"juliagpt-jax\[harness\]"):
        harness.run_tasks(adapter, ["x"], None, None, None)
