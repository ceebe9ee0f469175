"""Log-probabilities behind a text: a sum of the whole text's own, whatever other texts begin alike."""

import functools

import jax
import numpy as np
import pytest

from juliagpt_jax.inference import continuations
from juliagpt_jax.inference.beginning import FEWEST
from juliagpt_jax.models.build import build_model
from juliagpt_jax.training.state import initial_state

VOCAB, CONTEXT = 11, 48
SHOWN = np.random.default_rng(1).integers(0, VOCAB, 24).astype(np.int32)


def build(tiny, *more):
    config = tiny("model.width=16", "model.layers=2", "model.tie=false", f"model.context={CONTEXT}", *more)
    model = build_model(config, VOCAB)
    return model, jax.jit(lambda: initial_state(config, model).params)()


def texts(count, shown=SHOWN):
    rng = np.random.default_rng(0)
    return [np.concatenate([shown, rng.integers(0, VOCAB, rng.integers(2, 25))]).astype(np.int32) for _ in range(count)]


@functools.cache
def forward(model):
    return jax.jit(lambda params, ids: jax.nn.log_softmax(model.apply({"params": params}, ids)[0][0]))


def alone(model, params, ids):
    """Log-probabilities (T, V) behind each token of a text, by itself, with pads that no token sees."""
    padded = np.zeros((1, CONTEXT), np.int32)
    padded[0, : len(ids)] = ids
    return np.asarray(forward(model)(params, padded), np.float64)[: len(ids)]


@pytest.fixture
def reads(monkeypatch):
    """Shapes (B, T) of what is read, one a pass, and how many tokens were read before it."""
    passes = []
    for name in ("_next", "_continued"):
        run = getattr(continuations, name)
        told = lambda model, params, begun, inputs, *more, run=run: (
            passes.append((inputs.shape, int(begun.length))) or run(model, params, begun, inputs, *more)
        )
        monkeypatch.setattr(continuations, name, told)
    return passes


# The Monarch mixer's cache has as many slots as its context, so what is shown is read with each question.
@pytest.mark.parametrize(
    ("changes", "apart"),
    [
        ((), len(SHOWN)),
        (("model.positions=learned",), len(SHOWN)),
        (("model.sink=token",), len(SHOWN)),
        (("model.mask=window", "model.window=8"), 0),
        (("model.mixer=monarch attention",), 0),
    ],
)
def test_what_all_texts_begin_with_is_read_once(changes, apart, tiny, reads):
    """Log-probabilities are those of each text by itself, and nothing that is shown is read again."""
    model, params = build(tiny, *changes)
    own = texts(2 * continuations.ROWS + 3)
    asked = np.random.default_rng(2).integers(0, VOCAB, (len(own), 2))
    wanted = [alone(model, params, ids)[-1][two] for ids, two in zip(own, asked, strict=True)]
    np.testing.assert_allclose(continuations.next_ids(model, params, own, asked), wanted, atol=1e-5)

    pairs = [(ids, 1 + n % (len(ids) - len(SHOWN) - 1)) for n, ids in enumerate(own)]
    logs, greedy = continuations.last_ids(model, params, pairs)
    for (ids, count), log, best in zip(pairs, logs, greedy, strict=True):
        said = alone(model, params, ids[:-1])[-count:]
        np.testing.assert_allclose(log, said[np.arange(count), ids[-count:]].sum(), atol=1e-4)
        assert best == (said.argmax(axis=1) == ids[-count:]).all()
    assert {length for _, length in reads} == {apart}
    assert max(shape[1] for shape, _ in reads) <= CONTEXT - apart


def test_few_texts_or_little_in_common_are_read_whole(tiny, reads):
    model, params = build(tiny)
    few, short = texts(continuations.ROWS), texts(2 * continuations.ROWS, SHOWN[: FEWEST - 1])
    differ = [*texts(2 * continuations.ROWS), SHOWN[::-1].copy()]
    for own in (few, short, differ):
        continuations.next_ids(model, params, own, np.zeros((len(own), 1), int))
    assert {length for _, length in reads} == {0}


def test_a_text_that_is_another_s_beginning(tiny):
    """One token of it at least is read anew, since its logits are asked for."""
    model, params = build(tiny)
    own = [np.concatenate([SHOWN, SHOWN])[: len(SHOWN) + n % 3] for n in range(2 * continuations.ROWS)]
    found = continuations.next_ids(model, params, own, np.full((len(own), 1), 3))
    np.testing.assert_allclose(found[:, 0], [alone(model, params, ids)[-1, 3] for ids in own], atol=1e-5)


def test_long_texts_share_a_pass_with_fewer(tiny, monkeypatch):
    model, _ = build(tiny)
    monkeypatch.setattr(continuations, "LOGITS", 2 * CONTEXT * max(VOCAB, model.config.heads * CONTEXT))
    batches = continuations._alike(model, [np.zeros(CONTEXT, np.int32)] * 5)
    assert [batch.shape for _, batch in batches] == [(2, CONTEXT)] * 3
