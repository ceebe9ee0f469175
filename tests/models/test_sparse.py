"""Top-k and block-sparse attention beside their definitions, and what is their own among mixers. The laws of
test_decoder.py hold for their words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.evaluation import attention, cost
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.speculative import SpeculativeGenerator
from juliagpt_jax.models import sparse
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.layers import linears
from juliagpt_jax.models.mixers import MIXERS

WORDS = ("topk", "blocksparse")
B, H, K, T, C = 2, 4, 2, 37, 8


def mixer(tiny, word, *flags):
    shape = (f"model.width={H * C}", f"model.heads={H}", f"model.kv_heads={K}", f"model.context={T}")
    model = tiny(*shape, "model.sparse.top=3", "model.sparse.block=5", "model.sparse.blocks=2", *flags).model
    return MIXERS[word](model, 1.0, linears(model))


def drawn(seed=0):
    return [jax.random.normal(jax.random.key(seed + i), (B, heads, T, C)) for i, heads in enumerate((H, K, K))]


def attend(mixer, params, q, k, v):
    """(B, H, T, C)."""
    rest = jnp.arange(T)[None], None, lambda weights: weights
    run = jax.jit(lambda params, *given: mixer.apply({"params": params}, *given, *rest, method="attend")[0])
    y = run(params, q, k, v)
    return y.reshape(B, T, H, C).swapaxes(1, 2)


def shown(word, q, k, b, h, t):
    """The keys that query t of head h sees, by the definition in float64: 3 highest scores, or blocks of 5."""
    q, k = np.asarray(q, np.float64)[b, h, t], np.asarray(k, np.float64)[b, h // (H // K)]
    if word == "topk":
        scores = k[: t + 1] @ q
        return [s for s in range(t + 1) if (scores > scores[s]).sum() < 3]
    likes = {block: k[5 * block : 5 * block + 5].mean(axis=0) @ q for block in range(t // 5)}
    met = [*sorted(likes, key=lambda block: -likes[block])[:2], t // 5]
    return [s for s in range(t + 1) if s // 5 in met]


@pytest.mark.parametrize("sink", ["none", "logit"])
@pytest.mark.parametrize("word", WORDS)
def test_attention_is_a_sum_over_what_is_chosen(word, sink, tiny, monkeypatch):
    """softmax over the tokens of the definition, written out, with grouped heads; with tiles that overflow."""
    monkeypatch.setattr(sparse, "TILE", 4)
    layer, (q, k, v) = mixer(tiny, word, f"model.sink={sink}"), drawn()
    logits = np.array([0.5, -1.0, 2.0, 0.0])
    params = {"sink_logit": jnp.asarray(logits, jnp.float32)} if sink == "logit" else {}
    y = np.asarray(attend(layer, params, q, k, v))
    weights = layer.apply({"params": params}, q, k, jnp.arange(T)[None], method="weights")
    for b, h, t in np.ndindex(B, H, T):
        seen = shown(word, q, k, b, h, t)
        scores = np.exp(np.asarray(k, np.float64)[b, h // 2, seen] @ np.asarray(q, np.float64)[b, h, t] / C**0.5)
        scores /= scores.sum() + (np.exp(logits[h]) if sink == "logit" else 0)
        np.testing.assert_allclose(y[b, h, t], scores @ np.asarray(v)[b, h // 2, seen], atol=1e-5)
        wanted = np.zeros(T)
        wanted[seen] = scores
        np.testing.assert_allclose(weights[b, h, t], wanted, atol=1e-6)


@pytest.mark.parametrize("word", WORDS)
def test_gradients_are_those_of_the_kept_alone(word, tiny):
    """Of the definition with what is kept held fixed: the choice has none, and neither has what is dropped."""
    layer, (q, k, v) = mixer(tiny, word), drawn()
    kept = layer.apply({}, q, k, jnp.arange(T)[None], method="weights") > 0

    def plain(q, k, v):
        k, v = (jnp.repeat(part, H // K, axis=1) for part in (k, v))
        scores = jnp.where(kept, jnp.einsum("bhtc,bhsc->bhts", q, k) / C**0.5, -jnp.inf)
        return jnp.einsum("bhts,bhsc->bhtc", jax.nn.softmax(scores, axis=-1), v)

    slopes = lambda run: jax.jit(jax.grad(lambda *given: jnp.sum(jnp.sin(3 * run(*given))), (0, 1, 2)))(q, k, v)
    for got, wanted in zip(slopes(lambda *given: attend(layer, {}, *given)), slopes(plain), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())

    unseen = ~np.asarray(kept)[:, :, -1].reshape(B, K, H // K, T).any(axis=2)  # by the last query, (B, K, T)
    last = lambda k, v: jnp.sum(attend(layer, {}, q, k, v)[:, :, -1])
    for slope in jax.jit(jax.grad(last, (0, 1)))(k, v):
        assert np.all(np.asarray(slope)[unseen] == 0) and np.any(np.asarray(slope)[~unseen] != 0)


@pytest.mark.parametrize("word", WORDS)
def test_what_chooses_everything_is_attention(word, tiny):
    layer, given = mixer(tiny, word, "model.sparse.top=37", "model.sparse.blocks=7"), drawn()
    got, wanted = (attend(one, {}, *given) for one in (layer, mixer(tiny, "attention")))
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_ties_with_the_last_are_kept(tiny):
    """Five equal keys of a token: three are asked for, all of them count; one that is a little better leaves them."""
    layer, (q, k, _) = mixer(tiny, "topk"), drawn()
    one = jnp.broadcast_to(k[:, :, :1], k.shape)
    weights = layer.apply({}, q, one, jnp.arange(T)[None], method="weights")
    np.testing.assert_allclose(weights[..., 20, :], np.broadcast_to(np.arange(T) <= 20, (B, H, T)) / 21, atol=1e-6)
    better = one.at[:, :, 4].add(0.01 * q[:, ::2, 20])
    weights = layer.apply({}, q[:, ::2].repeat(2, axis=1), better, jnp.arange(T)[None], method="weights")
    assert np.all(np.asarray(weights)[:, :, 20].argmax(axis=-1) == 4)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_kth_largest(k):
    """Exactly that of a sort, with both signs, zeros, equals, and the least number that stands for what is hidden."""
    x = np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32)
    x[:, 2], x[::2, 4], x[:, 5], x[3] = x[:, 1], 0, sparse.LEAST, 1.5
    np.testing.assert_array_equal(jax.jit(sparse.kth_largest, static_argnums=1)(x, k), np.sort(x, axis=1)[:, -k])


def test_kth_largest_where_devices_share_a_batch():
    """Its loop begins with what each of them has."""
    x = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    auto, rows = (jax.sharding.AxisType.Auto,), jax.P("data")
    mesh = jax.make_mesh((2,), ("data",), axis_types=auto, devices=jax.devices()[:2])
    run = jax.shard_map(lambda x: sparse.kth_largest(x, 3), mesh=mesh, in_specs=rows, out_specs=rows)
    np.testing.assert_array_equal(run(x), np.sort(x, axis=1)[:, -3])


def test_a_chosen_block_that_looks_ahead_would_be_seen(tiny):
    """The block of a later token is liked most, and is met by no earlier query."""
    layer, (q, k, v) = mixer(tiny, "blocksparse"), drawn()
    before = attend(layer, {}, q, k, v)
    k = k.at[:, :, 30:].set(50 * q[:, ::2, 12:13])
    np.testing.assert_array_equal(attend(layer, {}, q, k, v)[:, :, :30], before[:, :, :30])


def built(tiny, word, *flags):
    few = ("model.sparse.top=4", "model.sparse.block=4", "model.sparse.blocks=1", "model.tie=false")
    model = build_model(tiny("model.width=32", "model.heads=4", f"model.mixer={word}", *few, *flags), 13)
    params = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})(
        jax.random.key(3), jnp.zeros((1, 2), int)
    )["params"]
    return model, params, jax.jit(model.apply)


ALL = ("model.value_embedding=x0", "model.head_gate=true", "model.unet=true", "model.kv_heads=2")


@pytest.mark.long
@pytest.mark.parametrize("word, sink", [("blocksparse topk", "token"), ("topk", "logit"), ("blocksparse", "logit")])
def test_with_every_switch_decoding_is_the_forward_pass(word, sink, tiny):
    """Value embeddings, gates, U-Net skips, grouped heads and sinks at once; prompts of 3 and 9 tokens in a padded
    prefill, then one by one, then three at once after two were taken back."""
    model, params, apply = built(tiny, word, *ALL, f"model.sink={sink}")
    params = jax.tree.map(lambda p: p + 0.3 if p.ndim == 2 and p.shape[-1] == 4 else p, params)  # gates that act
    tokens = jax.random.randint(jax.random.key(0), (2, 16), 0, 13)
    wanted = np.asarray(apply({"params": params}, tokens)[0])
    lengths, rows = np.array([3, 9]), np.arange(2)
    positions = np.where(np.arange(9)[None] < lengths[:, None], np.arange(9)[None], 16)
    logits, cache, _ = apply({"params": params}, tokens[:, :9], positions, model.init_cache(2, 16))
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(logits[row, :length], wanted[row, :length], atol=2e-5)
    for at in range(4):
        given = tokens[rows, lengths + at][:, None], (lengths + at)[:, None]
        logits, cache, _ = apply({"params": params}, *given, cache)
        np.testing.assert_allclose(logits[:, 0], wanted[rows, lengths + at], atol=2e-5)
    at = lengths[:, None] + np.arange(2, 5)[None]
    logits, _, _ = apply({"params": params}, tokens[rows[:, None], at], at, cache)
    np.testing.assert_allclose(logits, wanted[rows[:, None], at], atol=2e-5)


def test_what_lies_in_empty_slots_does_not_matter(tiny):
    """Of blocks, whose slots test_decoder.py does not find: keys, values and means."""
    model, params, apply = built(tiny, "blocksparse")
    tokens = jax.random.randint(jax.random.key(0), (2, 16), 0, 13)
    logits = []
    for stale in (0.0, 50.0):
        cache = jax.tree.map(lambda leaf, stale=stale: leaf + stale if leaf.ndim > 3 else leaf, model.init_cache(2, 16))
        found, cache, _ = apply({"params": params}, tokens[:, :6], jnp.arange(6)[None] + jnp.zeros((2, 1), int), cache)
        more = [found]
        for at in range(6, 12):
            found, cache, _ = apply({"params": params}, tokens[:, at : at + 1], jnp.full((2, 1), at), cache)
            more.append(found)
        logits.append(np.concatenate(more, axis=1))
    np.testing.assert_array_equal(logits[0], logits[1])


@pytest.mark.long
@pytest.mark.parametrize("word", WORDS)
def test_a_draft_writes_the_same_text(word, tiny):
    """Tokens are taken back from both caches."""
    model, params, _ = built(tiny, word, "model.context=24")
    small, others, _ = built(tiny, word, "model.context=24", "model.layers=1")
    params = jax.tree.map(lambda p: p * 2 if p.ndim == 2 else p, params)
    rule, prompts = Rule(greedy=True), [np.arange(3), np.arange(9)]
    wanted = Generator(model, params).generate(prompts, 12, rule)
    generator = SpeculativeGenerator(model, params, small, others, 3)
    np.testing.assert_array_equal(generator.generate(prompts, 12, rule), wanted)
    assert generator.accepted < generator.proposed


@pytest.mark.long
def test_top_k_evicts_and_blocks_do_not(tiny):
    """With room for all the evicting cache is plain decoding."""
    model, params, _ = built(tiny, "topk")
    rule = Rule(greedy=True)
    plain, evicting = (Generator(model, params, evict=on).generate([np.arange(5)], 8, rule) for on in (False, True))
    np.testing.assert_array_equal(evicting, plain)
    with pytest.raises(UserError, match=r"drops keys one by one, which model\.mixer=blocksparse does not do"):
        build_model(tiny("model.mixer=blocksparse"), 13).init_cache(1, 16, 0)


def test_heads_can_be_looked_at(tiny):
    model, params, _ = built(tiny, "attention topk blocksparse", "model.layers=3")
    assert attention.layers_with_heads(model) == [0, 1, 2]
    maps = attention.maps(model, params, jnp.arange(14)[None] % 13)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)
    assert [(np.asarray(one)[0, 0, -1] > 0).sum() for one in maps] == [14, 4, 6]


def test_cost_is_of_the_blocks_that_are_met(tiny):
    """The compiler's count of a batch, which has also what fills up the tiles."""
    model = tiny("model.width=64", "model.heads=2", "model.context=1024").model
    layer, rows = MIXERS["blocksparse"](model, 1.0, linears(model)), 2
    x, positions = jnp.zeros((rows, 1024, 64)), jnp.arange(1024)[None]
    params = jax.eval_shape(layer.init, jax.random.key(0), x, positions)
    counted = cost.compiled_flops(jax.jit(lambda p, x: layer.apply(p, x, positions)[0]).lower(params, x).compile())
    per_token = layer.flops(model) + 2 * 4 * 64 * 64
    assert layer.flops(model) == 64 * (2 * 32 + 4 * 128)
    assert 0.9 < counted / (rows * 1024 * per_token) < 2.5
    assert MIXERS["attention"].flops(model) == 4 * 64 * 1024
