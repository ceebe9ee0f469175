"""Scores of chunks: each equals what the chunk alone, without padding, gives; whatever stands beside it."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.evaluation import chunk_scores
from juliagpt_jax.evaluation.chunk_scores import OUTPUTS, SCORES, Lines, batches, lines, norms, score, sweep
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import compiled_programs
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.depth import DEPTHS
from juliagpt_jax.models.layers import LINEARS
from juliagpt_jax.models.mixers import MIXERS
from juliagpt_jax.training.state import initial_state

VOCAB, CONTEXT, LEAD = 11, 16, 0
LENGTHS = [21, 7, 16, 8]  # two windows; padded; a whole context; a whole bucket
# Every mixer in a stack and as an ODE, one recursive layer; each channel mixer and Linear in some of these rows.
ROWS = [
    (mixer, channel, depth, linear)
    for (mixer, depth), channel, linear in zip(
        [*itertools.product(MIXERS, ("stack", "ode")), ("attention", "recursive")],
        itertools.cycle(CHANNELS),
        itertools.cycle(LINEARS),
        strict=False,
    )
]
# Those of ternary Linears compile for a minute: by hand.
VARIANTS = [
    pytest.param(
        dict(zip(("mixer", "channel", "depth", "linear"), row, strict=True)),
        id="-".join(row),
        marks=[pytest.mark.slow] if "ternary" in row else [],
    )
    for row in ROWS
]


def text(lengths, vocab=VOCAB, seed=0) -> Lines:
    """Random lines of these lengths."""
    rng = np.random.default_rng(seed)
    rows = [[*rng.integers(1, vocab, size=n - 1), LEAD] for n in lengths]
    return lines(np.concatenate(rows).astype(np.uint8), LEAD)


def build(tiny, **names):
    words = [f"model.{key}={name}" for key, name in names.items()]
    config = tiny(
        *("model.width=16", "model.layers=1", "model.tie=false", "model.monarch.blocks=2"),
        f"model.context={CONTEXT}",
        *words,
    )
    model = build_model(config, VOCAB)
    return model, jax.jit(lambda: initial_state(config, model).params)()


@pytest.fixture(scope="module")
def built(tiny):
    return build(tiny)


def alone(model, params, tokens):
    """(loss, EL2N, gradient norm) of one chunk by itself: windows of the context side by side, the last one moved back
    to where the chunk ends."""
    behind = np.concatenate([[LEAD], tokens]).astype(int)
    n = len(tokens)

    def losses(params):
        found = []
        for begin in range(0, n, CONTEXT):
            first = max(0, min(begin, n - CONTEXT))
            logits, *_ = model.apply({"params": params}, behind[None, first : min(first + CONTEXT, n)])
            found.append((logits[:, begin - first :], behind[None, begin + 1 : begin + CONTEXT + 1]))
        return sum(jnp.sum(token_losses(*pair)) for pair in found) / n, found

    (loss, found), grads = jax.jit(jax.value_and_grad(losses, has_aux=True))(params)
    el2n = []
    for logits, targets in found:
        errors = np.array(jax.nn.softmax(logits[0].astype(float)))
        errors[np.arange(len(errors)), targets[0]] -= 1
        el2n += np.linalg.norm(errors, axis=-1).tolist()
    norm = np.sqrt(sum(float((np.asarray(g, float) ** 2).sum()) for g in jax.tree.leaves(grads)))
    return float(loss), float(np.mean(el2n)), norm


@given(st.lists(st.integers(0, 4), max_size=40))
def test_lines_are_the_lines_of_the_text(ids):
    tokens = np.array([*ids, 3], np.uint8)
    chunks = lines(tokens, 2)
    text = "".join("ab\nde"[i] for i in tokens)
    kept = text.splitlines(keepends=True)
    assert [
        "".join("ab\nde"[i] for i in tokens[s : s + n]) for s, n in zip(chunks.starts, chunks.lengths, strict=True)
    ] == kept


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(2, 17), st.integers(1, 5))
def test_every_token_of_a_chunk_is_a_target_once(lengths, context, rows):
    """Behind its own chunk alone, with all of it in sight or a whole context."""
    count = sum(lengths)
    tokens = np.arange(1, count + 1, dtype=np.int32)  # token i is i, so that a window tells where it stands
    starts = np.cumsum([0, *lengths[:-1]])
    seen, shapes = [], []
    for batch in batches(Lines(tokens, starts, np.array(lengths)), context, 0, rows):
        assert batch.inputs.shape == batch.targets.shape and batch.inputs.shape[0] == rows
        assert batch.inputs.shape[2] <= context
        shapes.append(batch.inputs.shape)
        assert (batch.targets[len(batch.ids) :] == IGNORED).all()
        for row, chunk in enumerate(batch.ids):
            for inputs, targets in zip(batch.inputs[row], batch.targets[row], strict=True):
                for at in np.flatnonzero(targets != IGNORED):
                    target, begin = int(targets[at]), int(starts[chunk]) + 1
                    behind = [0, *range(begin, target)][-(at + 1) :]
                    assert inputs[: at + 1].tolist() == behind
                    place = target - begin  # in its chunk; the last window ends where the chunk ends
                    assert at == place - min(place // context * context, max(0, lengths[chunk] - context))
                    seen.append(target)
    assert sorted(seen) == tokens.tolist()
    assert len(set(shapes)) <= 5 + max(lengths) // context


@pytest.mark.long
@pytest.mark.parametrize("names", VARIANTS)
def test_a_sweep_is_a_loop_over_single_chunks(tiny, names):
    """For every mixer, channel, depth and linear: batches, padding and windows change no score."""
    model, params = build(tiny, **names)
    default = all(next(iter(t)) == names[k] for k, t in [("mixer", MIXERS), ("channel", CHANNELS), ("depth", DEPTHS)])
    chunks = text(LENGTHS if default else LENGTHS[:2])
    done = score(model, params, chunks, CONTEXT, LEAD, SCORES)
    for i, (start, length) in enumerate(zip(chunks.starts, chunks.lengths, strict=True)):
        loss, el2n, norm = alone(model, params, chunks.tokens[start : start + length])
        got = [done.values[name][i] for name in SCORES]
        np.testing.assert_allclose(got, [loss, np.exp(loss), el2n, norm], rtol=2e-5, err_msg=f"chunk {i}")
    np.testing.assert_array_equal(done.values["tokens"], chunks.lengths)


@pytest.mark.long
def test_no_other_chunk_and_no_batch_size_moves_a_score(built, monkeypatch):
    model, params = built
    chunks = text(LENGTHS)
    together = score(model, params, chunks, CONTEXT, LEAD, SCORES).values
    monkeypatch.setattr(chunk_scores, "_rows", lambda params: 2)
    few = chunks.take(np.array([3, 0, 1]))
    apart = score(model, params, few, CONTEXT, LEAD, SCORES).values
    for name in SCORES:
        np.testing.assert_allclose(apart[name], together[name][[3, 0, 1]], rtol=1e-6, err_msg=name)


def test_scores_without_gradients_are_the_same(built):
    model, params = built
    chunks = text(LENGTHS)
    full = score(model, params, chunks, CONTEXT, LEAD, SCORES).values
    quick = score(model, params, chunks, CONTEXT, LEAD, ("el2n", "loss"))
    assert list(quick.values) == ["el2n", "loss", "tokens"]
    for name in ("el2n", "loss"):
        np.testing.assert_allclose(quick.values[name], full[name], rtol=1e-6)


@pytest.mark.long
def test_gradients_taken_together_are_the_same(built, monkeypatch):
    """As an accelerator takes them."""
    model, params = built
    chunks = text(LENGTHS)
    one_by_one = score(model, params, chunks, CONTEXT, LEAD, SCORES).values
    monkeypatch.setattr(chunk_scores, "_batched", lambda: True)
    before = compiled_programs(chunk_scores._run)
    together = score(model, params, chunks, CONTEXT, LEAD, SCORES).values
    assert compiled_programs(chunk_scores._run) > before  # another program
    for name in SCORES:
        np.testing.assert_allclose(together[name], one_by_one[name], rtol=2e-6)


def weigh(operand, grads, weights):
    return {"weight": weights[:, 0]}, {
        "weight": jnp.sum(weights),
        "grad": jnp.tensordot(weights[:, 0], grads["head"], 1),
    }


def test_sums_are_over_all_chunks_and_no_filler(built):
    model, params = built
    chunks = text(LENGTHS)
    weights = np.arange(1.0, 1 + len(LENGTHS), dtype=np.float32)[:, None]
    done = sweep(model, params, chunks, CONTEXT, LEAD, weigh, weights=weights)
    np.testing.assert_array_equal(done.values["weight"], weights[:, 0])
    assert done.sums["weight"] == weights.sum()
    total = 0
    for i, (start, n) in enumerate(zip(chunks.starts, chunks.lengths, strict=True)):
        own = sweep(model, params, Lines(chunks.tokens, np.array([start]), np.array([n])), CONTEXT, LEAD, weigh)
        total = total + weights[i] * own.sums["grad"]
    np.testing.assert_allclose(done.sums["grad"], total, atol=1e-6)


def test_the_rate_leaves_out_the_first_batch_of_each_shape(built, monkeypatch):
    model, params = built
    clock = itertools.count()
    monkeypatch.setattr(chunk_scores, "time", types.SimpleNamespace(perf_counter=lambda: float(next(clock))))
    monkeypatch.setattr(chunk_scores, "FORWARD_ROWS", 1)  # 4 chunks a batch, one on each of 4 devices
    done = sweep(model, params, text([8] * 12), CONTEXT, LEAD)
    # Ticks: the beginning, one at the head of each of 3 batches, one behind the first, the end.
    assert (done.compile_s, done.seconds) == (1, 5) and done.tokens_per_s == 8 * 8 / 4


def test_outputs_are_what_their_names_say():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    targets = jnp.array([0, 1])
    key = jax.random.key(0)
    np.testing.assert_allclose(OUTPUTS["loss"](logits, targets, key), -np.log([0.5, 0.1]), rtol=1e-6)
    np.testing.assert_allclose(OUTPUTS["margin"](logits, targets, key), np.log([1.0, 1 / 9]), atol=1e-6)
    sure = OUTPUTS["margin"](jnp.array([[60.0, 0.0, 0.0]]), jnp.array([0]), key)  # 1 - p is 0 in float32
    np.testing.assert_allclose(sure, 60 - np.log(2), rtol=1e-6)
    many = jnp.broadcast_to(logits[:1], (20_000, 3))
    drawn = np.exp(-np.asarray(OUTPUTS["sampled"](many, jnp.zeros(20_000, int), key)))
    assert abs((drawn > 0.4).mean() - 0.5) < 3 * 0.5 / np.sqrt(20_000)


def test_a_line_without_end_is_refused(built):
    model, params = built
    with pytest.raises(UserError, match=r"passage 1 has 1025 tokens, 1024 is the most for a context of 16"):
        sweep(model, params, text([5, 1025]), CONTEXT, LEAD)


def test_norms_in_float64():
    rng = np.random.default_rng(0)
    grads = {"a": rng.normal(size=(3, 4, 5)), "b": rng.normal(size=(3, 2))}
    wanted = [np.sqrt((grads["a"][i] ** 2).sum() + (grads["b"][i] ** 2).sum()) for i in range(3)]
    with jax.enable_x64(True):
        found, _ = norms((), jax.tree.map(jnp.asarray, grads), jnp.ones((3, 1)))
        np.testing.assert_allclose(found["grad_norm"], wanted, rtol=1e-12)
