"""Monarch products, convolutions and mixers beside dense matrices, direct sums in float64 and arrays made outside this
project (tests/golden/README.md). The laws of test_decoder.py hold for the words in the tables."""

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.evaluation import cost
from juliagpt_jax.ground import devices
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.models import build, roles
from juliagpt_jax.models import monarch as m
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.layers import MonarchLinear, ShortConv, monarch
from juliagpt_jax.models.mixers import MIXERS
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.training import step
from juliagpt_jax.training.mesh import batch_sharding, shardings
from juliagpt_jax.training.state import Frozen, initial_state


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def jitted(function, *arguments):
    return jax.tree.map(np.asarray, jax.jit(function)(*arguments))


# The Monarch matrix and its Linear.


@pytest.mark.parametrize("name", ["bbm_square16", "bbm_rect"])
def test_product_as_in_the_reference(name, golden):
    """Value and gradients; the rectangular one has 4 and 3 blocks of different shapes."""
    g = np.load(golden / "monarch" / f"{name}.npz")
    with jax.enable_x64(True):
        given = [jnp.asarray(g[key]) for key in ("x", "w1_bfly", "w2_bfly")]
        y, pull = jax.vjp(monarch, *given)
        got = [y, *pull(jnp.asarray(g["dy"]))]
    for ours, key in zip(got, ("y", "dx", "dw1", "dw2"), strict=True):
        np.testing.assert_allclose(ours, g[key], atol=1e-12, err_msg=key)
    np.testing.assert_allclose(g["x"] @ g["dense"].T, got[0], atol=1e-12)


def linear(fan_in, features, blocks, gain=1.0):
    layer = MonarchLinear(features, blocks, gain)
    return layer, layer.init(jax.random.key(0), jnp.zeros((1, fan_in)))["params"]


@pytest.mark.parametrize("fan_in, features, blocks", [(16, 16, 4), (12, 36, 2), (36, 12, 3), (8, 20, 1)])
def test_linear_is_its_dense_matrix(fan_in, features, blocks):
    layer, params = linear(fan_in, features, blocks)
    inner = min(fan_in, features)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == inner * (fan_in + features) // blocks
    run = jax.jit(lambda x: layer.apply({"params": params}, x))
    dense = np.asarray(run(jnp.eye(fan_in)))
    # By the definition: block i of the first factor, its outputs dealt out to the blocks of the second in turn.
    right, left = (np.asarray(params[side], np.float64) for side in ("right", "left"))
    q, p = right.shape[1:]
    middle = np.zeros((inner, fan_in))
    for i in range(blocks):
        middle[i * q : (i + 1) * q, i * p : (i + 1) * p] = right[i]
    wanted = np.zeros((features, fan_in))
    for row in range(features):
        s, block = divmod(row, blocks)
        wanted[row] = left[block, s] @ middle[block::blocks]
    np.testing.assert_allclose(dense, wanted.T, atol=1e-6)
    assert (dense != 0).all(), "each input reaches each output"
    x = jnp.asarray(draw(1, 2, 5, fan_in), jnp.float32)
    np.testing.assert_allclose(run(x), x @ dense, atol=1e-5)


@pytest.mark.parametrize("fan_in, features", [(96, 384), (384, 96), (192, 192)])
@pytest.mark.parametrize("gain", [1.0, 0.25])
def test_linear_keeps_the_scale(fan_in, features, gain):
    layer, params = linear(fan_in, features, 4, gain)
    y = layer.apply({"params": params}, jnp.asarray(draw(0, 400, fan_in), jnp.float32))
    assert abs(float(jnp.std(y)) / gain - 1) < 0.05


@pytest.mark.parametrize(
    "overrides, says",
    [
        (["model.linear=monarch", "model.monarch.blocks=5"], "5 blocks do not divide a side of a 32 x 32"),
        (["model.channel=monarch", "model.ffn_mult=1.5625"], "4 blocks do not divide a side of a 32 x 50"),
        (["model.channel=swiglu monarch", "model.monarch.blocks=8"], "8 blocks are more than the square root"),
    ],
)
def test_blocks_that_do_not_fit(overrides, says, tiny):
    build.check(tiny())
    with pytest.raises(UserError, match=f"^config.model.monarch.blocks: {says}") as error:
        build.check(tiny(*overrides))
    assert "\n" not in str(error.value)


# The DFT and the convolution.


@pytest.mark.parametrize("n1, n2, length", [(2, 1, 2), (4, 3, 12), (6, 5, 17), (10, 4, 21), (8, 7, 1), (2, 9, 10)])
def test_dft_of_any_even_split(n1, n2, length):
    """Beside numpy's; and back again. Values in float64."""
    x = draw(n1, 2, length, 3)
    with jax.enable_x64(True):
        found = jax.jit(m.spectrum, static_argnums=(1, 2))(jnp.asarray(x), n1, n2)
        back = jax.jit(m.signal, static_argnums=(1, 2, 3))(found, n1, n2, length)
    found = np.asarray(found)
    chex.assert_shape(found, (n1 // 2 + 1, 2, n2, 2, 3))
    wanted = np.fft.fft(x, n1 * n2, axis=1)
    for k1 in range(n1 // 2 + 1):
        for k2 in range(n2):
            ours = found[k1, 0, k2] + 1j * found[k1, 1, k2]
            np.testing.assert_allclose(ours, wanted[:, k1 + n1 * k2], atol=1e-11)
    np.testing.assert_allclose(back, x, atol=1e-12)


def test_split():
    for length in [1, 2, 3, 255, 256, 511, 2047, 16383]:
        n1, n2 = m.split(length)
        assert n1 % 2 == 0 and length <= n1 * n2 <= 1.25 * length + 2
    assert max(m.split(16383)) < 300, "near the square root: this is what makes it sub-quadratic"


def direct(x, taps):
    """The causal sum in float64, two loops."""
    x, taps = np.asarray(x, np.float64), np.asarray(taps, np.float64)
    y = np.zeros_like(x)
    for t in range(x.shape[1]):
        for j in range(max(0, t - len(taps) + 1), t + 1):
            y[:, t] += taps[t - j] * x[:, j]
    return y


@pytest.mark.parametrize("T, K", [(1, 1), (2, 2), (16, 16), (37, 37), (64, 20)])
def test_convolution_is_the_direct_sum(T, K):
    x, taps = draw(0, 2, T, 3).astype(np.float32), draw(1, K, 3).astype(np.float32)
    y = jitted(m.causal_convolution, x, taps)
    np.testing.assert_allclose(y, direct(x, taps), atol=2e-6 * math.sqrt(T))
    if K == T:
        at = np.array([T - 1, T // 2])
        last = jitted(m.convolution_at, x, taps, at)
        np.testing.assert_allclose(last, direct(x, taps)[np.arange(2), at], atol=2e-6 * math.sqrt(T))


def test_convolution_as_in_the_reference(golden):
    """With the skip connection D, value and gradients."""
    g = np.load(golden / "monarch" / "longconv_causal.npz")

    @jax.jit
    def run(u, k, D, dy):
        y, pull = jax.vjp(lambda u, k, D: m.causal_convolution(u, k) + D[None, None] * u, u, k, D)
        return y, *pull(dy)

    with jax.enable_x64(True):
        y, du, dk, dD = map(
            np.asarray, run(*(g[key].swapaxes(-1, -2) for key in ("u", "k")), g["D"], g["dy"].swapaxes(1, 2))
        )
    for ours, key in [(y.swapaxes(1, 2), "y"), (du.swapaxes(1, 2), "du"), (dk.T, "dk"), (dD, "dD")]:
        np.testing.assert_allclose(ours, g[key], atol=1e-10, err_msg=key)


def test_short_convolution():
    """By its sum; in two parts as in one; and the past of a row ends with its own last token."""
    x = jnp.asarray(draw(0, 2, 7, 5), jnp.float32)
    layer, none = ShortConv(3), jnp.zeros((2, 2, 5))
    params = layer.init(jax.random.key(0), x, none, 7)["params"]
    params["bias"] = params["bias"] + 0.5
    run = jax.jit(lambda x, past, count: layer.apply({"params": params}, x, past, count))
    y, past = run(x, none, 7)
    wanted = direct(x, np.asarray(params["taps"])[::-1]) + 0.5
    np.testing.assert_allclose(y, wanted, atol=1e-6)
    np.testing.assert_array_equal(past, x[:, 5:])
    head, past = run(x[:, :4], none, np.array([4, 1]))
    np.testing.assert_array_equal(past[1], np.stack([np.zeros(5), x[1, 0]]))
    np.testing.assert_allclose(jnp.concatenate([head, run(x[:, 4:], past, 3)[0]], 1)[0], wanted[0], atol=1e-6)


def test_gradient_of_a_short_convolution():
    """Of all that it is given, beside the derivative of its sum."""
    x, past = jnp.asarray(draw(0, 2, 7, 5), jnp.float32), jnp.asarray(draw(1, 2, 2, 5), jnp.float32)
    params = {"taps": jnp.asarray(draw(2, 3, 5), jnp.float32), "bias": jnp.full(5, 0.5)}

    def plain(params, x, past):
        both = jnp.concatenate([past, x], axis=1)
        return sum(params["taps"][j][None, None] * both[:, j : j + 7] for j in range(3)) + params["bias"][None, None]

    ours = lambda params, x, past: ShortConv(3).apply({"params": params}, x, past, 7)[0]
    got, wanted = (
        jax.jit(jax.grad(lambda *given, run=run: jnp.sum(jnp.sin(run(*given))), argnums=(0, 1, 2)))(params, x, past)
        for run in (ours, plain)
    )
    chex.assert_trees_all_close(got, wanted, atol=1e-5)


# The mixer.


class BiasedLinear(nn.Module):
    """The reference's projections have biases; ours have none."""

    features: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.zeros, (x.shape[-1], self.features))
        return x @ kernel + self.param("bias", nn.initializers.zeros, (self.features,))[None, None]


def theirs(g, kind):
    """Our tree from the reference's arrays: kind is W or dW."""
    get = lambda name: g[f"{kind}/{name}"]
    layer = lambda i, part: get(f"filter_fn.implicit_filter.{2 * i}.{part}")
    mixer = {
        name: {"kernel": get(f"{name}_linear.weight").T, "bias": get(f"{name}_linear.bias")} for name in ("in", "out")
    }
    mixer["short"] = {"taps": get("short_filter.weight")[:, 0].T, "bias": get("short_filter.bias")}
    mixer["skip"] = get("filter_fn.bias")
    mixer["filter"] = {"frequency": get("filter_fn.implicit_filter.1.freq")[0], "weight_out": layer(3, "weight").T}
    for i in range(3):
        mixer["filter"] |= {f"weight_{i}": layer(i, "weight").T, f"bias_{i}": layer(i, "bias")}
    return jax.tree.map(jnp.asarray, mixer)


def test_mixer_as_in_the_reference(golden, tiny):
    g = np.load(golden / "monarch" / "mixer_causal.npz")
    model = tiny("model.width=16", "model.context=32").model
    mixer, positions = m.MonarchMixer(model, 1.0, BiasedLinear), jnp.arange(32)[None]
    params = theirs(g, "W")
    taps = m.LongFilter(model, 16).apply({"params": params["filter"]}, 32)
    np.testing.assert_allclose(taps, g["k"], atol=1e-5)
    y, pull = jax.vjp(jax.jit(lambda p, x: mixer.apply({"params": p}, x, positions)[0]), params, jnp.asarray(g["x"]))
    np.testing.assert_allclose(y, g["y"], atol=2e-5)
    grads, dx = pull(jnp.asarray(g["dy"]))
    np.testing.assert_allclose(dx, g["dx"], atol=1e-4 * np.abs(g["dx"]).max())
    for path, wanted in paths(theirs(g, "dW")).items():
        ours = paths(grads)[path]
        np.testing.assert_allclose(ours, wanted, atol=1e-4 * np.abs(wanted).max(), err_msg=path)


def test_filter_belongs_to_the_context(tiny):
    """A longer text sees the same taps; another context is another filter. Each begins with energy 1."""
    filters = {n: m.LongFilter(tiny(f"model.context={n}").model, 500) for n in (64, 128)}
    params = filters[64].init(jax.random.key(0), 8)
    run = jax.jit(lambda n, t: filters[n].apply(params, t), static_argnums=(0, 1))
    whole = np.asarray(run(64, 64))
    np.testing.assert_allclose(run(64, 10), whole[:10], atol=1e-6)
    assert np.abs(run(128, 64) - whole).max() > 0.1
    assert abs(np.mean(np.sum(whole**2, axis=0)) - 1) < 0.2
    faded = np.abs(whole[-16:]).mean(axis=0) / np.abs(whole[:16]).mean(axis=0)
    assert np.median(faded[-50:]) < 1e-3 < 0.03 < np.median(faded[:50]), "the first channels see far, the last do not"


def test_longer_than_the_context(tiny):
    """The convolution reaches no further back than its filter, with or without a cache; the learned matrices end."""
    model = tiny("model.context=8").model
    make = lambda word: MIXERS[word](model, 1.0, BiasedLinear)
    mixer, x, positions = make("monarch"), jnp.asarray(draw(0, 1, 12, 32), jnp.float32), jnp.arange(12)[None]
    apply = jax.jit(mixer.apply)
    params = jax.jit(mixer.init)(jax.random.key(0), x, positions)
    params = jax.tree.map(lambda p: p + 0.1, params)
    long, _ = apply(params, x, positions)
    cached, cache = apply(params, x[:, :11], positions[:, :11], mixer.init_cache(1, 16, jnp.float32))
    one, _ = apply(params, x[:, 11:], positions[:, 11:], cache)
    np.testing.assert_allclose(long, jnp.concatenate([cached, one], axis=1), atol=1e-4)
    heads = make("monarch_heads")
    with pytest.raises(ValueError, match="12 tokens, but the matrices are for a context of 8"):
        heads.init(jax.random.key(0), x, positions)


# Learned Monarch matrices.


@pytest.mark.parametrize("n, blocks", [(4, 4), (5, 3), (1, 4)])
def test_masked_product_is_the_dense_masked_matrix(n, blocks):
    H, C, S = 2, 3, n * blocks
    right, left = draw(0, H, blocks, n, n), draw(1, H, n, blocks, blocks)
    x, sums = draw(2, 2, S, H, C), draw(3, 2, blocks, n, H, C)
    dense = np.einsum("hlsk,hklp->hslkp", left, right).reshape(H, S, S)
    wanted = np.einsum("hij,bjhc->bihc", np.tril(dense), x)
    with jax.enable_x64(True):
        y, held = m.masked_monarch(*map(jnp.asarray, (x, right, left)))
        more, later = m.masked_monarch(*map(jnp.asarray, (x, right, left, sums)))
    np.testing.assert_allclose(y, wanted, atol=1e-5)
    own = np.einsum("hklp,bkphc->bklhc", right, x.reshape(2, blocks, n, H, C))
    np.testing.assert_allclose(held, own, atol=1e-5)
    np.testing.assert_allclose(later, own + sums, atol=1e-5)
    before = np.einsum("hlsk,bklhc->bslhc", np.tril(left), sums).reshape(2, S, H, C)
    np.testing.assert_allclose(more, wanted + before, atol=1e-5)


def test_learned_matrices_begin_as_averages():
    """c exp(-(i - j) / tau) of energy 1, with tau from half a block to the context."""
    right, left = m.exponential_averages(5, 4, 3, 20)
    dense = np.einsum("hlsk,hklp->hslkp", left, right).reshape(3, 20, 20)
    lag = np.arange(20)[:, None] - np.arange(20)
    for head, tau in zip(dense, (2.5, math.sqrt(2.5 * 20), 20), strict=True):
        wanted = np.sqrt(1 - np.exp(-2 / tau)) * np.exp(-lag / tau)
        np.testing.assert_allclose(np.tril(head), np.tril(wanted), atol=1e-12)
    assert [m.block_shape(n) for n in (16, 17, 128, 2)] == [(4, 4), (5, 4), (12, 11), (2, 1)]


# In the whole.


@pytest.mark.parametrize("mixer", ["monarch", "monarch_heads attention"])
def test_text_past_the_context(mixer, tiny, past_the_context):
    """Greedy text of two prompts over three contexts equals one forward pass a token over the rolling window."""
    slots, vocab = 16, 11
    config = tiny("model.width=16", f"model.context={slots}", "model.tie=false", "seed=0", f"model.mixer={mixer}")
    model = build_model(config, vocab)
    params = jax.jit(lambda: initial_state(config, model).params)()
    params = jax.tree.map(lambda p: p * 2 if p.ndim == 2 else p, params)
    prompts = [np.arange(3), np.arange(12) % vocab]
    text = past_the_context(model, params, prompts)
    assert len(set(text[1].tolist())) > 2, "a text that says something"


def shapes(config, vocab=7):
    model = build_model(config, vocab)
    return model, jax.eval_shape(lambda: initial_state(config, model).params)


def test_what_generation_casts(tiny):
    """Matrix products run in the model's precision; what makes a filter stays float32, and so does a vector."""
    model, params = shapes(tiny("model.mixer=monarch", "model.channel=monarch", "train.precision=bf16"))
    held = Generator(model, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), params)).params
    for path, leaf in paths(held).items():
        whole = leaf.ndim == 1 or "/filter/" in path
        assert leaf.dtype == (jnp.float32 if whole else jnp.bfloat16), path


def test_weight_decay(tiny):
    """Monarch factors decay as other matrices do; taps, biases, skips and all of a filter do not."""
    config = tiny("model.mixer=monarch monarch_heads", "model.channel=monarch swiglu")
    params = paths(shapes(config)[1])
    decays = {path for path in params if roles.of(path).decay}
    both = {f"block_{i}/mixer/{side}/kernel" for i in (0, 1) for side in ("in", "out")}
    channels = {f"block_0/channel/{part}/{side}" for part in ("gate", "up", "down") for side in ("left", "right")}
    channels |= {f"block_1/channel/{part}/kernel" for part in ("gate", "up", "down")}
    assert decays == both | channels | {"block_1/mixer/left", "block_1/mixer/right", "embedding"}
    assert len([path for path in params if "/filter/" in path]) == 8


@pytest.mark.long
def test_four_devices(tiny):
    """Two that share the batch times two that share each parameter give what one gives."""
    text = np.random.default_rng(0).integers(13, size=(4, 17), dtype=np.int32)
    states = []
    for data, parts in [(1, 1), (2, 2)]:
        mesh = [f"mesh.data={data}", f"mesh.fsdp={parts}"]
        words = ["model.layers=1", "model.mixer=monarch", "model.channel=monarch", "train.lr=2e-5", "train.min_lr=0.0"]
        config = tiny(*words, *mesh)
        mesh = devices.make_mesh(config.mesh, 4)
        model = build_model(config, 13)
        make = lambda config=config, model=model: initial_state(config, model)
        places = shardings(jax.eval_shape(make), mesh)
        state = jax.jit(make, out_shardings=places)()
        factor = state.params["block_0"]["channel"]["up"]["left"]
        assert factor.addressable_shards[0].data.size * parts == factor.size
        batch = jax.device_put(Batch(text[:, :-1], text[:, 1:]), batch_sharding(mesh))
        states.append(jax.device_get(step.make_train_step(config, model, mesh)(state, batch, Frozen())[0]))
    chex.assert_trees_all_close(states[1].opt_state, states[0].opt_state, atol=1e-6, rtol=0)
    chex.assert_trees_all_close(states[1].params, states[0].params, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mixer", ["monarch", "monarch_heads"])
def test_cost_is_near_the_compilers_count(mixer, tiny):
    """A mixer's own formula, without its Linears: within a fifth of a forward pass (which also counts gates)."""
    width, context, rows = 64, 256, 32
    model = tiny(f"model.width={width}", f"model.context={context}", f"model.mixer={mixer}").model
    layer = MIXERS[mixer](model, 1.0, BiasedLinear)
    x, positions = jnp.zeros((rows, context, width)), jnp.arange(context)[None]
    params = jax.eval_shape(layer.init, jax.random.key(0), x, positions)
    counted = cost.compiled_flops(jax.jit(lambda p, x: layer.apply(p, x, positions)[0]).lower(params, x).compile())
    formula = rows * context * (MIXERS[mixer].flops(model) + 2 * 4 * width * width)
    assert 0.85 < counted / formula < 1.2
    config = tiny("model.layers=3", f"model.mixer={mixer} attention")
    wanted = 3 * (2 * MIXERS[mixer].flops(config.model) + 4 * config.model.width * config.model.context)
    assert cost.train_flops_per_token(config.model, 1000, 9) == 6000 + wanted
