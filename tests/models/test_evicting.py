"""A cache that evicts: plain decoding until it is full, then what its kept keys and values say at their places in the
cache, recomputed one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import build, evicting

VOCAB, SLOTS, LENGTH = 13, 8, 27
H, K, C = 4, 2, 6


def turned(x: np.ndarray, position: int) -> np.ndarray:
    """A key or query (C,) with its rotary position, as complex numbers."""
    half = C // 2
    waves = np.exp(1j * position * 10_000.0 ** (-np.arange(half) / half)) * (x[:half] + 1j * x[half:])
    return np.concatenate([waves.real, waves.imag])


def naive(q: np.ndarray, k: np.ndarray, v: np.ndarray, first: int, sink: np.ndarray) -> np.ndarray:
    """One row, q (H, T, C), k and v (K, T, C), token by token: a list of what is kept, of which the oldest behind the
    first is dropped; each at its place in the list. (T, H, C)."""
    kept, out = [], np.zeros((q.shape[1], H, C))
    for t in range(q.shape[1]):
        kept.append((k[:, t], v[:, t]))
        if len(kept) > SLOTS:
            del kept[first]
        for head in range(H):
            group = head // (H // K)
            query = turned(q[head, t], len(kept) - 1)
            scores = np.exp([turned(key[group], at) @ query / C**0.5 for at, (key, _) in enumerate(kept)])
            values = np.stack([value[group] for _, value in kept])
            out[t, head] = scores @ values / (scores.sum() + np.exp(sink[head]))
    return out


@pytest.mark.parametrize("sizes", [[1] * LENGTH, [SLOTS, *[1] * 4, *[3] * 5], [5, 20, 2]], ids=["ones", "few", "many"])
@pytest.mark.parametrize(("first", "sink"), [(0, -np.inf), (3, 0.7)])
def test_each_token_sees_what_is_kept_when_it_is_read(first, sink, sizes):
    """Two rows of different length in steps of these sizes, the shorter one padded, 19 and 15 tokens past full."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, heads, LENGTH, C)).astype(np.float32) for heads in (H, K, K))
    sinks = jnp.linspace(sink, sink + 1, H) if np.isfinite(sink) else jnp.full(H, -jnp.inf)
    wanted = [naive(q[row], k[row], v[row], first, np.asarray(sinks)) for row in range(2)]
    cache = evicting.empty(2, K, SLOTS, first, C, jnp.float32)
    attend = jax.jit(
        lambda q, k, v, at, cache: evicting.attend(q, k, v, at, cache, 10_000.0, sinks.reshape(K, -1), lambda w: w)
    )
    done, lengths = 0, [LENGTH, LENGTH - 4]
    for size in sizes:
        here = np.arange(done, min(done + size, LENGTH))
        at = np.stack([np.where(here < length, here, evicting.PAD) for length in lengths])
        y, cache = attend(*(x[:, :, here] for x in (q, k, v)), at, cache)
        for row, length in enumerate(lengths):
            real = here[here < length]
            own = np.asarray(y)[row, : len(real)].reshape(len(real), H, C)
            np.testing.assert_allclose(own, wanted[row][real], atol=2e-5)
        done += size


def test_no_angle_grows_with_the_text():
    """A million tokens on, the same kept tokens say the same."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, heads, 12, C)).astype(np.float32) for heads in (H, K, K))
    said = []
    attend = jax.jit(lambda q, k, v, at, cache: evicting.attend(q, k, v, at, cache, 10_000.0, None, lambda w: w))
    for start in (8, 8 + 8 * 10**6):
        cache = evicting.empty(1, K, SLOTS, 0, C, jnp.float32)
        for t in range(12):
            at = np.array([[start + t]])
            one = (x[:, :, t : t + 1] for x in (q, k, v))
            y, cache = attend(*one, at, cache)
            said.append(y)
    np.testing.assert_allclose(said[:12], said[12:], atol=1e-6)


@pytest.fixture(scope="module")
def model(tiny):
    made = build.build_model(
        tiny("model.width=16", "model.layers=2", "model.sink=token", "model.tie=false", f"model.context={SLOTS}"), VOCAB
    )
    tokens = jax.random.randint(jax.random.key(0), (2, LENGTH), 0, VOCAB)
    params = jax.jit(made.init)(jax.random.key(1), tokens[:, :SLOTS])["params"]
    return made, jax.tree.map(lambda p: p * 3 if p.ndim == 2 else p, params), tokens


@pytest.mark.long
def test_a_model_reads_alike_in_any_steps_and_as_plain_until_it_is_full(model):
    """Two layers behind a sink token, which stays beside the first two: 8 tokens are as a forward pass, and the others
    are not those of one that sees everything."""
    made, params, tokens = model
    apply = jax.jit(made.apply)
    ones, chunks = (read(apply, model, sizes) for sizes in ([1] * 20, [SLOTS, 4, 4, 4]))
    np.testing.assert_allclose(chunks, ones, atol=1e-4)
    plain = apply({"params": params}, tokens[:, :20])[0]
    np.testing.assert_allclose(ones[:, :SLOTS], plain[:, :SLOTS], rtol=1e-5, atol=1e-5)  # logits of up to 8
    assert np.abs(ones - plain)[:, SLOTS:].max() > 1e-2


def read(apply, model, sizes):
    """The logits (2, n, V) of tokens that are read in steps of these sizes."""
    made, params, tokens = model
    cache, done, said = made.init_cache(2, SLOTS, 2), 0, []
    for size in sizes:
        positions = np.broadcast_to(np.arange(done, done + size), (2, size))
        logits, cache, _ = apply({"params": params}, tokens[:, done : done + size], positions, cache)
        said.append(logits)
        done += size
    return np.concatenate(said, axis=1)


def test_the_cache_has_one_size_and_its_sink_token(model):
    made, *_ = model
    cache = made.init_cache(2, SLOTS, 2)
    assert {name: leaf.shape for name, leaf in cache[0].items()} == {
        name: (2, 2, count, 8) for name, count in (("first_k", 3), ("first_v", 3), ("k", 6), ("v", 6))
    }


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("model.positions=learned", "moves tokens to new positions, and model.positions=learned are added"),
        ("model.mask=causal window", "model.mask=causal window goes by those in the text"),
        ("model.mixer=attention monarch", "drops keys one by one, which model.mixer=monarch does not do"),
    ],
)
def test_what_is_refused(more, says, tiny):
    with pytest.raises(UserError, match=says):
        build.build_model(tiny(more), VOCAB).init_cache(1, SLOTS, 0)
