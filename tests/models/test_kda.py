"""Kimi Delta Attention beside arrays made outside this project (tests/golden/README.md), and what is its own among
mixers. The laws of test_decoder.py hold for its words; the rule itself: test_delta.py."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.evaluation import cost
from juliagpt_jax.ground import config_file
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import build, delta, kda, precision, roles
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.mixers import MIXERS
from juliagpt_jax.models.parameters import count, paths

WORDS = ("kda", "gated_deltanet")


class Plain(nn.Module):
    """A Linear with a bias if its name is one that has it in the reference."""

    features: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x):
        y = x @ self.param("kernel", nn.initializers.normal(x.shape[-1] ** -0.5), (x.shape[-1], self.features))
        if self.name == "gate_up":
            y = y + self.param("bias", nn.initializers.zeros, (self.features,))[None, None]
        return y


@pytest.mark.parametrize("bound", [0.0, 5.0])
def test_gate_as_in_the_reference(bound, golden):
    g = np.load(golden / "kda" / "gate.npz")
    decay = kda.log_decay(*(jnp.asarray(g[name]) for name in ("x", "A_log", "dt_bias")), bound)
    np.testing.assert_allclose(decay, g["g_lowerbound_m5" if bound else "g"], rtol=1e-5, atol=1e-6)
    assert not bound or np.all(decay >= -bound)


def theirs(g, kind):
    """Our tree from the reference's arrays: kind is W or dW."""
    get = lambda name: np.asarray(g[f"{kind}/{name}"], np.float32)
    ours = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}
    ours |= {"decay_down": "f_proj.0", "decay_up": "f_proj.1", "gate_down": "g_proj.0", "gate_up": "g_proj.1"}
    mixer: dict = {name: {"kernel": get(f"{their}.weight").T} for name, their in ours.items()}
    mixer["gate_up"]["bias"] = get("g_proj.1.bias")
    taps = [get(f"{name}_conv1d.weight")[:, 0].T for name in "qkv"]
    mixer |= {"short": {"taps": np.concatenate(taps, axis=1)}, "norm": {"scale": get("o_norm.weight")}}
    mixer |= {"beta": get("b_proj.weight").T, "A_log": get("A_log").ravel(), "dt_bias": get("dt_bias")}
    return jax.tree.map(jnp.asarray, mixer)


def test_layer_as_in_the_reference(golden, tiny):
    """Output and gradients of every parameter, of 48 tokens by chunks; and token by token with a cache."""
    g = np.load(golden / "kda" / "layer_mha.npz")
    H, K, HV, V = map(int, g["meta_heads_k_hv_v"])
    knobs = [f"heads={H}", f"value_heads={HV}", f"head_width={K}", f"value_width={V}"]
    model = tiny("model.width=32", *(f"model.kda.{knob}" for knob in knobs)).model
    mixer, positions = kda.KimiDeltaAttention(model, 1.0, Plain), jnp.arange(48)[None]
    params, x = theirs(g, "W"), jnp.asarray(g["x"])
    y, pull = jax.vjp(jax.jit(lambda p, x: mixer.apply({"params": p}, x, positions)[0]), params, x)
    np.testing.assert_allclose(y, g["y"], atol=1e-5)
    np.testing.assert_allclose(y, g["y_fla_recurrent_f32"], atol=1e-5)
    grads, dx = pull(jnp.asarray(g["dy"]))
    np.testing.assert_allclose(dx, g["dx"], atol=2e-5 * np.abs(g["dx"]).max())
    for path, wanted in paths(theirs(g, "dW")).items():
        np.testing.assert_allclose(paths(grads)[path], wanted, atol=2e-5 * np.abs(wanted).max(), err_msg=path)
    one = jax.jit(lambda x, at, cache: mixer.apply({"params": params}, x, jnp.full((2, 1), at), cache))
    cache = mixer.init_cache(2, 48, jnp.float32)
    for t in range(48):
        now, cache = one(x[:, t : t + 1], t, cache)
        np.testing.assert_allclose(now[:, 0], g["y"][:, t], atol=1e-5)


def drawn(module, seed, *given):
    return jax.jit(module.init)(jax.random.key(seed), *given)["params"]


def layer(tiny, word, *flags):
    model = tiny("model.width=24", *flags).model
    return model, MIXERS[word](model, 1.0, Plain)


def test_the_two_differ_by_the_decay_alone(tiny):
    """Where all channels of a head are given one decay, Kimi Delta Attention is Gated DeltaNet."""
    _, mixer = layer(tiny, "gated_deltanet")
    _, other = layer(tiny, "kda", "model.kda.gate_rank=24")
    x, positions = jax.random.normal(jax.random.key(0), (2, 9, 24)), jnp.arange(9)[None]
    params = drawn(mixer, 1, x, positions)
    wide = drawn(other, 2, x, positions)
    assert wide.keys() - params.keys() == {"decay_down", "decay_up"} and params.keys() - wide.keys() == {"decay"}
    same = {name: params[name] for name in params.keys() & wide.keys()} | {"dt_bias": jnp.repeat(params["dt_bias"], 12)}
    same |= {"decay_down": {"kernel": jnp.eye(24)}, "decay_up": {"kernel": jnp.repeat(params["decay"], 12, axis=1)}}
    same |= {f"gate_{way}": wide[f"gate_{way}"] for way in ("down", "up")}
    params |= {f"gate_{way}": wide[f"gate_{way}"] for way in ("down", "up")}
    wanted = jax.jit(other.apply)({"params": same}, x, positions)[0]
    got = jax.jit(MIXERS["gated_deltanet"](other.model, 1.0, Plain).apply)({"params": params}, x, positions)[0]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("word", WORDS)
def test_the_cache_has_one_size(word, tiny):
    """However long the text; its state is float32 in every precision."""
    _, mixer = layer(tiny, word, "model.heads=2", "model.kda.value_heads=4", "model.kda.value_width=7")
    short, long = (mixer.init_cache(3, slots, jnp.bfloat16) for slots in (8, 1_000_000))
    assert jax.tree.map(jnp.shape, short) == jax.tree.map(jnp.shape, long)
    assert short["state"].shape == (3, 4, 12, 7) and short["state"].dtype == jnp.float32
    assert short["past"].shape == (3, 3, 2 * 24 + 28)


@pytest.mark.parametrize("word", WORDS)
def test_what_steers_the_state_stays_exact(word, tiny):
    """A_log and dt_bias are float32 in bf16 too, and do not decay; beta's matrix is a plain one in int8."""
    settings = tiny(f"model.mixer={word}", "model.layers=1", "train.precision=bf16")
    model = build_model(settings, 7)
    params = drawn(model, 0, jnp.zeros((1, 2), int))
    half = paths(precision.cast(params, "bf16"))
    for name in ("A_log", "dt_bias"):
        assert half[f"block_0/mixer/{name}"].dtype == jnp.float32
        assert not roles.of(f"block_0/mixer/{name}").decay
    assert half["block_0/mixer/query/kernel"].dtype == jnp.bfloat16
    mixer = params["block_0"]["mixer"]
    assert np.all((mixer["A_log"] >= 0) & (mixer["A_log"] <= np.log(16)))
    times = np.asarray(jax.nn.softplus(mixer["dt_bias"]))
    assert np.all((times > 0.0009) & (times < 0.11))
    held = jax.eval_shape(lambda: precision.prepare(model, params, "int8")[1])["block_0"]["mixer"]
    assert held["beta"].dtype == jnp.float32 and held["query"]["kernel_int8"].dtype == jnp.int8


@pytest.mark.parametrize("knob, value", [("negative", "true"), ("delta", "false"), ("bound", "0.001")])
def test_switches_act(knob, value, tiny, monkeypatch):
    """Each on what the delta rule is given, and on nothing else."""
    given: list = []
    x, positions = jax.random.normal(jax.random.key(0), (1, 5, 24)), jnp.arange(5)[None]
    params = {"params": drawn(layer(tiny, "kda")[1], 1, x, positions)}
    monkeypatch.setattr(delta, "chunked", lambda q, k, v, *more: given.append((q, k, v, *more)) or (v, None))
    for flags in ((), (f"model.kda.{knob}={value}",)):
        layer(tiny, "kda", *flags)[1].apply(params, x, positions)
    (*before, delta_before), (*after, delta_after) = given
    same = [bool(np.all(a == b)) for a, b in zip(before[:5], after[:5], strict=True)]
    assert same == [True, True, True, knob != "bound", knob != "negative"]
    assert (delta_before, delta_after) == (True, knob != "delta")
    if knob == "negative":
        np.testing.assert_allclose(after[4], 2 * before[4])
    if knob == "bound":
        assert np.all((after[3] >= -0.001) & (after[3] <= 0))


@pytest.mark.parametrize(
    "overrides, says",
    [
        (["model.kda.heads=3"], "model.kda.heads: 3 heads do not divide model.width=32; model.kda.head_width says"),
        (["model.kda.value_heads=3"], "model.kda.value_heads: 3 are no multiple of the 2 heads of keys"),
    ],
)
def test_heads_that_do_not_fit(overrides, says, tiny):
    with pytest.raises(UserError, match=f"config.{says}"):
        tiny(*overrides)
    tiny("model.kda.heads=3", "model.kda.head_width=5", "model.kda.value_heads=6")


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("delta_rule", ["true", "false"])
def test_cost_is_near_the_compilers_count(word, delta_rule, tiny, monkeypatch):
    """Of a text of one chunk, which the formula has, since the compiler counts a loop once; it does not count the
    triangular system. What is no product, which the formula leaves out, is the rest."""
    width, rows, T = 128, 4, delta.CHUNK
    monkeypatch.setattr(delta, "chunked", functools.partial(delta.chunked, chunk=T))
    model = tiny(f"model.width={width}", f"model.context={T}", f"model.kda.delta={delta_rule}").model
    mixer = MIXERS[word](model, 1.0, Plain)
    x, positions = jnp.zeros((rows, T, width)), jnp.arange(T)[None]
    params = jax.eval_shape(mixer.init, jax.random.key(0), x, positions)
    counted = cost.compiled_flops(jax.jit(lambda p, x: mixer.apply(p, x, positions)[0]).lower(params, x).compile())
    matrices = sum(leaf.size for path, leaf in paths(params).items() if path.endswith(("kernel", "beta", "decay")))
    solved = model.heads * T * T if delta_rule == "true" else 0
    formula = rows * T * (mixer.flops(model) - solved + 2 * matrices)
    assert 0.85 < counted / formula < 1.3


@pytest.mark.long
def test_text_of_a_hybrid(tiny, past_the_context):
    """Greedy text of two prompts past the context, where half of it is read again, is that of a forward pass a
    token."""
    slots, vocab = 8, 11
    words = ["model.mixer=kda attention", "model.positions=none", "model.tie=false", f"model.context={slots}"]
    model = build_model(tiny("model.width=16", *words), vocab)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    params = jax.tree.map(lambda p: p * 2 if p.ndim == 2 else p, params)
    prompts = [np.arange(3), np.arange(7)]
    text = past_the_context(model, params, prompts)
    assert len(set(text.ravel().tolist())) > 2, "a text that says something"


def test_without_positions_attention_has_no_order(tiny):
    """The last token of one attention layer sees the others as a set; under rotary positions it does not."""
    tokens = jnp.array([[3, 1, 4, 2, 5]])
    for word, same in (("none", True), ("rotary", False)):
        model = build_model(tiny("model.layers=1", f"model.positions={word}", "model.tie=false"), 7)
        params = drawn(model, 0, tokens)
        forward = jax.jit(model.apply)
        run = lambda tokens, forward=forward, params=params: forward({"params": params}, tokens)[0][0, -1]
        assert np.allclose(run(tokens), run(tokens[:, jnp.array([2, 0, 3, 1, 4])]), atol=1e-6) == same
        assert not np.allclose(run(tokens), run(tokens.at[0, 1].set(6)), atol=1e-3)


def test_the_large_config(tiny):
    """Three layers of it, then one of attention without positions; about 100M parameters with 16k tokens."""
    settings = config_file.load("configs/kda_100m.py")
    model = build_model(settings, 16_384)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    assert 95e6 < count(shapes) < 110e6 and settings.model.tie
    build.check(settings)
    assert ["A_log" in shapes[f"block_{i}"]["mixer"] for i in range(4)] == [True, True, True, False]
