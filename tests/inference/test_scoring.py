"""A text's cross entropy: each character once, with the context that the protocol says, equal to a count by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.data.counts import TextCounts
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.inference import scoring
from juliagpt_jax.inference.scoring import (
    Score,
    in_order,
    losses_of,
    mean_loss,
    score_text,
    spread,
    strided,
    token_losses,
    window_losses,
)
from juliagpt_jax.models.build import build_model
from juliagpt_jax.training.state import initial_state

VOCAB, CONTEXT, LEAD = 11, 16, 7
LETTERS = CharTokenizer("abcdefghijk")


@pytest.fixture(scope="module")
def scored(tiny):
    config = tiny("model.width=16", "model.layers=1", "model.tie=false", f"model.context={CONTEXT}")
    model = build_model(config, VOCAB)
    return model, jax.jit(lambda: initial_state(config, model).params)()


@given(st.integers(1, 80), st.integers(1, 20), st.data())
def test_every_token_is_a_target_once(n, context, data):
    """In its place behind what stands before it, and with at least context - stride + 1 characters in sight."""
    stride = data.draw(st.sampled_from([1, context]) | st.integers(1, context))
    tokens = np.arange(1, n + 1, dtype=np.uint8)  # token i is i, so that a window tells where it stands
    inputs, targets = strided(tokens, context, stride, lead=0)
    assert inputs.shape == targets.shape and inputs.shape[1] == context
    assert inputs.dtype == targets.dtype == np.int32
    rows, columns = np.nonzero(targets != IGNORED)
    np.testing.assert_array_equal(np.sort(targets[rows, columns]), tokens)
    for row, column in zip(rows, columns, strict=True):
        target = targets[row, column]
        np.testing.assert_array_equal(inputs[row, : column + 1], np.arange(target - column - 1, target))
        assert column + 1 <= context
        assert column + 1 >= min(target, context - stride + 1), (
            "the lead and all the text before it, or nearly a context"
        )


@pytest.mark.parametrize("stride", [0, -1, 17])
def test_impossible_strides_are_refused(stride):
    with pytest.raises(ValueError, match="stride"):
        strided(np.arange(5), CONTEXT, stride, 0)


@pytest.mark.parametrize("length", [1, 5, CONTEXT, CONTEXT + 1, 45])
@pytest.mark.parametrize("stride", [1, 5, CONTEXT, None])
def test_score_is_a_count_by_hand(length, stride, scored):
    """One forward pass a character over the lead and the characters that the protocol lets it see; bits added up."""
    model, params = scored
    tokens = np.random.default_rng(length).integers(VOCAB, size=length).astype(np.uint8)
    text = [LEAD, *tokens.tolist()]
    step_ = stride or CONTEXT // 2
    forward = jax.jit(lambda t: jax.nn.log_softmax(model.apply({"params": params}, t)[0]))
    bits = 0.0
    for i in range(length):
        # The window that scores character i: the first that ends behind it.
        begin = 0 if i < CONTEXT else (i - CONTEXT) // step_ * step_ + step_
        seen = text[begin : i + 1]
        assert min(i + 1, CONTEXT - step_ + 1) <= len(seen) <= CONTEXT
        padded = np.zeros((1, CONTEXT), np.int32)
        padded[0, : len(seen)] = seen
        bits -= float(forward(padded)[0, len(seen) - 1, tokens[i]]) / math.log(2)
    score = score_text(model, params, tokens, LEAD, stride, batch=4, tokenizer=LETTERS)
    assert (score.scored_tokens, score.context, score.stride) == (length, CONTEXT, step_)
    np.testing.assert_allclose(score.bpc, bits / length, rtol=1e-6)
    np.testing.assert_allclose(score.perplexity, 2 ** (bits / length), rtol=1e-6)
    assert score.to_dict() == {
        "loss": score.loss,
        "perplexity": score.perplexity,
        "bpc": score.bpc,
        "bpb": score.bpc,
        "word_perplexity": pytest.approx(2**bits, rel=1e-3),
        "scored_tokens": length,
        "characters": length,
        "scored_bytes": length,
        "scored_words": 1,
        "context": CONTEXT,
        "stride": step_,
    }


def test_a_uniform_model_costs_log2_of_the_vocabulary(scored):
    model, params = scored
    params = params | {"head": 0 * params["head"]}
    score = score_text(model, params, np.arange(40) % VOCAB, LEAD, tokenizer=LETTERS)
    np.testing.assert_allclose(score.bpc, math.log2(VOCAB), rtol=1e-6)
    np.testing.assert_allclose(score.perplexity, VOCAB, rtol=1e-6)


def test_score_does_not_depend_on_the_batch_or_the_place(scored):
    model, params = scored
    tokens = np.random.default_rng(0).integers(VOCAB, size=100)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    scores = [score_text(model, params, tokens, LEAD, batch=b).loss for b in (1, 4, 64)]
    scores.append(score_text(model, jax.device_put(params, whole), tokens, LEAD, batch=4, place=place).loss)
    np.testing.assert_allclose(scores, scores[0], rtol=1e-6)


def test_token_losses():
    logits = jnp.log(jnp.array([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]]]))
    losses = token_losses(logits, jnp.array([[1, 2, IGNORED]]))
    np.testing.assert_allclose(losses, [[math.log(4), -math.log(0.8), 0]], rtol=1e-6)
    assert losses.dtype == jnp.float32
    # A logit far from the others costs its distance, without overflow.
    np.testing.assert_allclose(token_losses(jnp.array([[[0.0, 1e4]]]), jnp.array([[0]])), [[1e4]])


def test_mean_is_over_scored_targets_in_float64():
    targets = np.array([[0, IGNORED], [1, 2]])
    assert mean_loss(np.array([[3.0, 0.0], [1.0, 2.0]], np.float32), targets) == 2
    many = np.full((1, 2**24 + 2), 1.0, np.float32)  # one more than a float32 sum can count to
    assert mean_loss(many, np.zeros(many.shape, int)) == 1


def test_losses_of_a_last_batch_that_is_not_full(scored):
    model, params = scored
    inputs, targets = strided(np.arange(70) % VOCAB, CONTEXT, 8, LEAD)
    assert len(inputs) % 3
    losses = losses_of(model, params, inputs, targets, batch=3)
    assert losses.shape == targets.shape
    np.testing.assert_array_equal(losses[targets == IGNORED], 0)
    logits = jax.jit(model.apply)({"params": params}, inputs)[0]
    np.testing.assert_allclose(losses, token_losses(logits, targets), atol=1e-6)


def test_long_rows_share_a_pass_with_fewer(scored, monkeypatch):
    """A context of 8,192 with 32 rows at a time would want 150 GB for the scores of one layer."""
    model, params = scored
    inputs, targets = strided(np.arange(70) % VOCAB, CONTEXT, 8, LEAD)
    whole, passes = losses_of(model, params, inputs, targets, batch=5), []
    told = lambda model, params, x, y: passes.append(len(y)) or window_losses(model, params, x, y)
    monkeypatch.setattr(scoring, "window_losses", told)
    monkeypatch.setattr(scoring, "NUMBERS", 2 * CONTEXT * max(VOCAB, model.config.heads * CONTEXT))
    np.testing.assert_allclose(losses_of(model, params, inputs, targets, batch=5), whole, atol=1e-6)
    assert set(passes) == {2}
    assert scoring.fitting(model, 5, CONTEXT, most=1) == 1


@given(st.integers(3, 200), st.integers(2, 20), st.integers(1, 30))
def test_spread_windows(n, context, count):
    """Pieces of the text, all different, from its beginning to its end, every target scored."""
    n = max(n, context)
    tokens = np.arange(1, n + 1, dtype=np.uint8)
    inputs, targets = spread(tokens, context, count, lead=0)
    assert 1 <= len(inputs) <= count and inputs.shape[1] == context
    assert inputs.dtype == targets.dtype == np.int32
    np.testing.assert_array_equal(targets, inputs + 1)
    np.testing.assert_array_equal(inputs, inputs[:, :1] + np.arange(context))
    starts = inputs[:, 0]
    assert (np.diff(starts) > 0).all() and len(starts) == min(count, max(1, n - context))
    assert starts[0] == (0 if n == context else 1)
    if count > 1:
        assert targets[-1, -1] == n
    if count > 2 and n - context > 4 * count:
        assert np.ptp(np.diff(starts)) <= 1, "evenly"


@pytest.mark.parametrize("n", [1, 2, 8, 15, 16, 17])
def test_a_text_shorter_than_the_context_is_one_window(n):
    inputs, targets = spread(np.arange(1, n + 1, dtype=np.uint8), 16, 8, lead=0)
    assert (inputs[0, 0] == 0) == (n <= 16) and (targets[:, -1] == n).any()
    assert inputs.shape == targets.shape == (1, min(n, 16))


def test_the_lead_is_the_end_of_a_line():
    assert CharTokenizer.train("ab\n c").lead == 0
    assert CharTokenizer.train("\t\nab").lead == 1
    assert CharTokenizer.train("abc").lead == 0


def test_perplexity_and_bits_are_one_number():
    score = Score(loss=math.log(8), scored_tokens=1, context=2, stride=1, counts=TextCounts(1, 1, 1))
    assert score.bpc == pytest.approx(3) and score.perplexity == pytest.approx(8)


def test_some_windows_are_spread_over_the_text_and_counted(scored):
    model, params = scored
    tokens = np.random.default_rng(0).integers(VOCAB, size=100)
    inputs, targets = strided(tokens, CONTEXT, 1, LEAD)
    chosen = [0, len(inputs) // 2, len(inputs) - 1]  # of an odd number of windows
    assert len(inputs) % 2 == 1
    losses = losses_of(model, params, inputs[chosen], targets[chosen], 4)
    score = score_text(model, params, tokens, LEAD, 1, windows=3)
    assert score.scored_tokens == CONTEXT + 2 and score.loss == pytest.approx(losses.sum() / (CONTEXT + 2), rel=1e-6)
    assert score_text(model, params, tokens, LEAD, 1, windows=10**6) == score_text(model, params, tokens, LEAD, 1)


def test_what_a_part_stands_for_is_counted_not_estimated(scored):
    """Characters, bytes and words of the scored tokens, and of a part of them; the loss stays one of tokens."""
    model, params = scored
    letters = CharTokenizer("\n abcdefgé世")
    tokens = letters.encode("éé ab 世世世 cd\n" * 8)
    whole = score_text(model, params, tokens, LEAD, tokenizer=letters)
    assert whole.counts == (len(tokens), 8 * 21, 8 * 5)
    assert whole.bpb == pytest.approx(whole.bpc * len(tokens) / (8 * 21))
    assert whole.loss == score_text(model, params, tokens, LEAD).loss
    half = np.arange(len(tokens)) < len(tokens) // 2
    part = score_text(model, params, tokens, LEAD, tokenizer=letters, parts={"half": half, "none": half & ~half}).parts
    assert list(part) == ["half"] and part["half"].counts == (len(tokens) // 2, 4 * 21, 4 * 5)
    some = score_text(model, params, tokens, LEAD, tokenizer=letters, windows=2)  # the first 16, the last 8 tokens
    size = len((letters.decode(tokens[:16]) + " 世世世 cd\n").encode())
    assert some.counts == (24, size, 6 + 3) and some.stride == 8


@pytest.mark.parametrize("batch", [1, 3])
def test_losses_come_in_the_order_of_the_text(scored, batch):
    """Whatever the stride and the batch; a stride of 1 is one window a token, cut a few at a time."""
    model, params = scored
    tokens = np.random.default_rng(0).integers(VOCAB, size=70)
    losses, places = in_order(model, params, tokens, LEAD, 1, batch)
    np.testing.assert_array_equal(places, np.arange(70))
    inputs, targets = strided(tokens, CONTEXT, 1, LEAD)
    own = losses_of(model, params, inputs, targets, 4)
    np.testing.assert_allclose(losses, own[targets != IGNORED], rtol=1e-5)
    assert score_text(model, params, tokens, LEAD, 1).loss == pytest.approx(losses.mean(), rel=1e-6)
