"""The gated delta rule beside arrays made outside this project (tests/golden/README.md), by its definition, and where
it is another rule that is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.models import delta, delta_chunks, kda

NAMES = ("q", "k", "v", "decay", "beta", "state")


def by_16(*given, **more):
    """In chunks of 16 tokens and pieces of 64, which are two chunks of a head's at least in all texts below."""
    return delta.chunked(*given, chunk=16, at_once=64, **more)


def by_1(*given, **more):
    """Token by token, in pieces of 64 at most."""
    return delta.chunked(*given, chunk=1, at_once=64, **more)


WAYS = {"recurrence": delta.recurrence, "chunks": by_16, "tokens": by_1}


def draw(seed, T, H=2, HV=2, K=8, V=6, B=2, channels=None, strength=1.0, most=1.0):
    """Random arguments by name: keys of length 1, decays of up to -10 * strength, most of them weak."""
    rng = np.random.default_rng(seed)
    q, k = rng.normal(size=(2, B, T, H, K))
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    return {
        "q": unit(q),
        "k": unit(k),
        "v": rng.normal(size=(B, T, HV, V)),
        "decay": -10 * strength * rng.uniform(size=(B, T, HV, channels or K)) ** 4,
        "beta": most * rng.uniform(size=(B, T, HV)),
        "state": rng.normal(size=(B, HV, K, V)),
    }


def tried(way, given, dtype=jnp.float32, **more):
    """(o, the last state) and the gradient by each argument, of a sum in which every number counts."""

    @jax.jit
    def run(given):
        o, state = way(*(given[name] for name in NAMES), **more)  # jit sorts the names
        weights = np.cos(np.arange(o.size)).reshape(o.shape), np.sin(np.arange(state.size)).reshape(state.shape)
        return sum(jnp.sum(x * w.astype(x.dtype)) for x, w in zip((o, state), weights, strict=True)), (o, state)

    grads, out = jax.grad(run, has_aux=True)({name: jnp.asarray(x, dtype) for name, x in given.items()})
    return dict(zip(("o", "last"), out, strict=True)) | grads


def assert_same(got, wanted, atol):
    for name in wanted:
        scale = max(1.0, float(np.abs(wanted[name]).max()))
        np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=atol * scale, err_msg=name)


@pytest.mark.parametrize(
    "file, way, dtype",
    [
        *(("op_basic", way, jnp.float32) for way in WAYS.values()),
        *(("op_initstate", way, jnp.float64) for way in WAYS.values()),
        ("op_strong_decay", delta.recurrence, jnp.float64),
        ("op_strong_decay", functools.partial(delta.chunked, chunk=64), jnp.float32),
    ],
)
def test_as_in_the_reference(file, way, dtype, golden):
    """Value and gradients, in float64 to rounding and in float32 to 1e-5; strong decay in one chunk of 64."""
    g = np.load(golden / "kda" / f"{file}.npz")
    theirs = ("q", "k", "v", "g", "beta") + (("h0",) if "h0" in g else ())
    wanted = {"o": g["o"], "last": g["ht"]} | {name: g[f"d{name}"] for name in theirs}

    with jax.enable_x64(dtype == jnp.float64):
        out, pull = jax.vjp(jax.jit(lambda *given: way(*given)), *(jnp.asarray(g[name], dtype) for name in theirs))
        grads = pull((jnp.asarray(g["do"], dtype), jnp.asarray(g["dht"], dtype)))
    got = dict(zip(wanted, (*out, *grads), strict=True))
    assert_same(got, wanted, 1e-12 if dtype == jnp.float64 else 1e-5)


CASES = {
    "one token": {"T": 1},
    "grouped": {"T": 5, "HV": 6},  # a piece for each text
    "beta to 2": {"T": 67, "B": 1, "most": 2.0},  # three pieces of two chunks, or two of 34 tokens
    "strong decay": {"T": 33, "strength": 12.0},
    "a decay a head": {"T": 21, "channels": 1},
    "no delta": {"T": 20, "delta": False},
}


@pytest.mark.parametrize("way", [by_16, by_1])
@pytest.mark.parametrize("case", CASES)
def test_pieces_are_the_recurrence(case, way):
    """Values and gradients, from a state, in lengths that are no multiple of a chunk; in float32 to 1e-5."""
    numbers = dict(CASES[case])
    more = {"delta": numbers.pop("delta", True)}
    given = draw(0, **numbers)
    with jax.enable_x64(True):
        wanted = jax.tree.map(np.asarray, tried(delta.recurrence, given, jnp.float64, **more))
    assert_same(tried(way, given, **more), wanted, 1e-5)


def test_step_by_step():
    given = draw(1, 7, HV=4)
    o, last = delta.recurrence(*given.values())
    state = given.pop("state")
    for t in range(7):
        now, state = delta.step(*(x[:, t] for x in given.values()), state)
        np.testing.assert_allclose(now, o[:, t], atol=1e-6)
    np.testing.assert_allclose(state, last, atol=1e-6)


def by_hand(q, k, v, decay, beta, state):
    """The definition in NumPy's float64, one head at a time."""
    state, o = state.copy(), np.zeros_like(v)
    group = v.shape[2] // k.shape[2]
    for b, t, h in np.ndindex(v.shape[:3]):
        key, query = k[b, t, h // group], q[b, t, h // group] * k.shape[-1] ** -0.5
        faded = np.exp(decay[b, t, h])[:, None] * state[b, h]
        state[b, h] = faded + beta[b, t, h] * np.outer(key, v[b, t, h] - faded.T @ key)
        o[b, t, h] = state[b, h].T @ query
    return o, state


def test_recurrence_by_hand():
    given = draw(2, 9, HV=4, most=2.0)
    for got, wanted in zip(delta.recurrence(*given.values()), by_hand(**given), strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-6)


@pytest.mark.parametrize("strength", [1.0, 1000.0])
def test_faded_products(strength):
    """Beside the sum over channels in float64; decays of thousands neither overflow nor spoil what follows them."""
    g = draw(3, 32, strength=strength)
    q, k, decay = (g[name][0, :, 0] for name in ("q", "k", "decay"))
    wide = lambda x: jnp.asarray(x, jnp.float32)[None]
    products, rows, keys, kept = jax.jit(delta_chunks.faded)(wide(np.stack([k, q], axis=1)), wide(k), wide(decay))
    wanted = np.zeros((32, 2, 32))
    for i in range(32):
        for j in range(i + 1):
            wanted[i, :, j] = np.stack([k[i], q[i]]) @ (np.exp(decay[j + 1 : i + 1].sum(0)) * k[j])
    np.testing.assert_allclose(products[0], wanted, atol=3e-7)
    since = np.cumsum(decay, axis=0)
    np.testing.assert_allclose(rows[0], np.stack([k, q], axis=1) * np.exp(since)[:, None], rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(keys[0], k * np.exp(decay.sum(0) - since), rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(kept[0], np.exp(since[-1]), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("chunk", [1, 32])
def test_a_weak_decay_behind_a_strong_one_loses_no_digits(chunk):
    """A text ends: its state fades by exp(-20000), and what is written behind that is as exact as ever."""
    given = draw(4, 32, strength=0.1)
    given["decay"][:, 5] = -20_000.0
    wanted, last = by_hand(**given)
    o, state = delta.chunked(*given.values(), chunk=chunk)
    np.testing.assert_allclose(o, wanted, atol=2e-6)
    np.testing.assert_allclose(state, last, atol=2e-6)


# Where it is another rule.


@pytest.mark.parametrize("channels", [8, 1])
@pytest.mark.parametrize("way", WAYS)
def test_where_nothing_is_left_a_text_begins_anew(way, channels):
    """Twice, once within a chunk: what follows is what it is alone, and what stands before has no gradient from it."""
    given, begins = draw(7, 40, channels=channels), (13, 16)
    for at in begins:
        given["decay"][:, at] = kda.NOTHING_LEFT
    whole = tried(WAYS[way], given)
    for begin, end in ((13, 16), (16, 40)):
        alone = {name: x[:, begin:end] for name, x in given.items() if name != "state"}
        alone["state"] = np.zeros_like(given["state"])
        o, last = WAYS[way](*(jnp.asarray(alone[name], jnp.float32) for name in NAMES))
        np.testing.assert_allclose(whole["o"][:, begin:end], o, atol=1e-5)
    np.testing.assert_allclose(whole["last"], last, atol=1e-5)

    def later(given):
        o, last = WAYS[way](*(given[name] for name in NAMES))
        return jnp.sum(jnp.sin(o[:, 16:])) + jnp.sum(jnp.sin(last))

    grads = jax.jit(jax.grad(later))({name: jnp.asarray(x, jnp.float32) for name, x in given.items()})
    for name in NAMES[:-1]:
        assert not np.asarray(grads[name])[:, :16].any() and np.isfinite(grads[name]).all(), name
    assert not np.asarray(grads["state"]).any() and np.asarray(grads["v"])[:, 16:].all()


@pytest.mark.parametrize("way", WAYS)
def test_equal_channels_are_gated_deltanet(way):
    """One decay a head, given once or for each channel; its gradient is the sum of theirs."""
    given = draw(5, 19, channels=1)
    once = tried(WAYS[way], given)
    each = tried(WAYS[way], given | {"decay": np.repeat(given["decay"], 8, axis=-1)})
    each["decay"] = each["decay"].sum(-1, keepdims=True)
    assert_same(once, each, 1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_no_decay_is_deltanet(way):
    """state <- state - beta k (state' k - v)': a step of gradient descent on |state' k - v|^2 / 2."""
    given = draw(6, 19)
    given["decay"] *= 0
    o, last = WAYS[way](*given.values())
    state = jnp.asarray(given["state"])
    for t in range(19):
        error = lambda s, t=t: (
            0.5
            * jnp.sum(
                given["beta"][:, t]
                * jnp.sum((jnp.einsum("bhkv,bhk->bhv", s, given["k"][:, t]) - given["v"][:, t]) ** 2, -1)
            )
        )
        state = state - jax.grad(error)(state)
        read = jnp.einsum("bhkv,bhk->bhv", state, given["q"][:, t]) * 8**-0.5
        np.testing.assert_allclose(o[:, t], read, atol=1e-5)
    np.testing.assert_allclose(last, state, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_beta_0_writes_nothing(way):
    """Of no state nothing is read; a given one fades and is read."""
    given = draw(7, 21)
    given["beta"] *= 0
    o, last = WAYS[way](*given.values())
    kept = np.exp(np.cumsum(given["decay"], axis=1))[..., None] * given["state"][:, None]
    np.testing.assert_allclose(last, kept[:, -1], atol=1e-6)
    np.testing.assert_allclose(o, np.einsum("bthkv,bthk->bthv", kept, given["q"]) * 8**-0.5, atol=1e-6)
    del given["state"]
    o, last = WAYS[way](*given.values())
    assert not np.any(o) and not np.any(last)


@pytest.mark.parametrize("way", WAYS)
def test_as_many_keys_as_channels_are_held(way):
    """Orthonormal keys are all read back; beside them the first is written anew without a trace of its old value."""
    K, rng = 8, np.random.default_rng(0)
    keys = np.linalg.qr(rng.normal(size=(K, K)))[0]
    order = [*range(K), 0]
    k, v = keys[order][None, :, None], rng.normal(size=(1, K + 1, 1, 5))
    _, state = WAYS[way](k, k, v, np.zeros_like(k), np.ones((1, K + 1, 1)))
    wanted = np.concatenate([v[0, K:, 0], v[0, 1:K, 0]])
    np.testing.assert_allclose(keys @ np.asarray(state[0, 0]), wanted, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_beta_2_turns_round(way):
    """The eigenvalue -1: the number of tokens is read off as even or odd, after any number of them."""
    T = 70
    k = np.zeros((1, T, 1, 4))
    k[..., 0] = 1
    state = np.zeros((1, 1, 4, 1))
    state[..., 0, 0] = 1
    o, _ = WAYS[way](2 * k, k, np.zeros((1, T, 1, 1)), np.zeros_like(k), np.full((1, T, 1), 2.0), state)
    np.testing.assert_allclose(o.ravel(), [(-1.0) ** (t + 1) for t in range(T)], atol=1e-5)


# What mixers build on.


@pytest.mark.parametrize("way", WAYS)
def test_later_tokens_other_rows_and_pads_change_nothing(way):
    """To the bit: of the outputs before and beside them; and a pad, of beta 0 and decay 0, leaves the state."""
    given = {name: jnp.asarray(x, jnp.float32) for name, x in draw(8, 24).items()}
    run = jax.jit(lambda given: WAYS[way](**given))
    o, last = run(given)
    other = {name: x if name == "state" else x.at[1, 10:].add(-0.5) for name, x in given.items()}
    changed, _ = run(other)
    np.testing.assert_array_equal(changed[0], o[0])
    np.testing.assert_array_equal(changed[1, :10], o[1, :10])
    assert (changed[1, 10:] != o[1, 10:]).any(axis=(1, 2)).all()
    real = jnp.arange(24)[None, :, None] < jnp.array([24, 10])[:, None, None]
    ended = given | {
        "beta": jnp.where(real, given["beta"], 0),
        "decay": jnp.where(real[..., None], given["decay"], 0),
    }
    again, kept = run(ended)
    np.testing.assert_array_equal(again[0], o[0])
    np.testing.assert_array_equal(kept[0], last[0])
    np.testing.assert_array_equal(again[1, :10], o[1, :10])
    short = {name: x[:, :10] if name != "state" else x for name, x in given.items()}
    np.testing.assert_allclose(kept[1], run(short)[1][1], atol=1e-6)
    stale = ended | {name: jnp.where(real[..., None], ended[name], 77.0) for name in ("q", "k", "v")}
    np.testing.assert_array_equal(run(stale)[1], kept)


@pytest.mark.parametrize(
    "length, most, chunk",
    [(64, 64, 64), (250, 64, 64), (40, 64, 16), (100, 64, 16), (112, 64, 64), (96, 64, 32), (5, 64, 8)],
)
def test_a_chunk_lengthens_a_text_by_a_quarter_at_most(length, most, chunk):
    """96 tokens would be 128 in chunks of 64, 100 be 128 in those of 32. Chunks of 16 and less are not shortened."""
    assert delta.length_of_chunk(length, most) == chunk


@pytest.mark.parametrize("way", WAYS)
def test_float32_inside(way):
    """Of half-precision arguments: the numbers that the same values give in float32."""
    half = {name: jnp.asarray(x, jnp.bfloat16) for name, x in draw(9, 12).items()}
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    for got, wanted in zip(WAYS[way](**half), WAYS[way](**wide), strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_what_is_refused():
    given = draw(0, 4, H=2, HV=3)
    with pytest.raises(ValueError, match="3 value heads are no multiple of 2"):
        delta.chunked(*given.values())
    with pytest.raises(ValueError, match="chunk=24 is no power of 2"):
        delta.chunked(*draw(0, 4).values(), chunk=24)


@pytest.mark.parametrize("way", [by_16, by_1])
def test_the_gradient_holds_pieces_alone(way):
    """Of a text four times as long: its own arrays and a state a piece more, not what is computed in between."""

    def held(T):
        given = {name: jnp.asarray(x, jnp.float32) for name, x in draw(10, T, B=1, K=16).items()}
        run = jax.jit(jax.grad(lambda given: jnp.sum(jnp.sin(way(*(given[name] for name in NAMES))[0]))))
        return run.lower(given).compile().memory_analysis().temp_size_in_bytes

    numbers = 2 * (3 * 16 + 6 + 1)  # of a token's arguments: q, k, decay, v, beta of two heads
    assert (held(1024) - held(256)) / (4 * 768 * numbers) < 5
