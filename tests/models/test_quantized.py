"""Ternary and int8 products against golden arrays (tests/golden/README.md), plain numpy, and the bytes they are kept
in."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.models import capture, precision, quantized
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.gpt import RMSNorm
from juliagpt_jax.models.layers import SubLNLinear, linears
from juliagpt_jax.models.quantized import PACKINGS


@pytest.fixture(scope="module")
def bitlinear(golden):
    """BitLinear of transformers, and its arrays as rows: kernels are (out, in) there."""
    z = np.load(golden / "bitnet" / "bitlinear_qat.npz")
    rows = {name: z[name].reshape(-1, z[name].shape[-1]) for name in ("x", "dy", "y", "dx", "xq", "y_norm", "dx_norm")}
    return {name: z[name] for name in z.files} | rows


def test_golden_product_and_gradients(bitlinear):
    z = bitlinear
    y, back = jax.vjp(quantized.ternary_product, jnp.asarray(z["x"]), jnp.asarray(z["weight"].T))
    dx, dkernel = back(jnp.asarray(z["dy"]))
    for got, wanted in [(y, z["y"]), (dx, z["dx"]), (dkernel, z["dweight"].T)]:
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=2e-6)


def test_golden_roundings(bitlinear, golden):
    z = bitlinear
    trits, scale = quantized.ternary(jnp.asarray(z["weight"].T))
    np.testing.assert_array_equal(trits, z["ternary"].T)
    np.testing.assert_allclose(scale, z["absmean"], rtol=1e-6)
    np.testing.assert_allclose(trits * scale, z["wq"].T, rtol=1e-6)
    edge = np.load(golden / "bitnet" / "act_quant_edge.npz")  # halves, and a row of zeros
    for x, wanted in [(z["x"], z["xq"]), (edge["x"], edge["xq"])]:
        levels, unit = quantized.token_levels(jnp.asarray(x))
        assert levels.dtype == jnp.int8
        np.testing.assert_allclose(levels / unit, wanted, rtol=1e-6)


def test_golden_linear_with_its_norm(bitlinear):
    z = bitlinear
    params = {"kernel": jnp.asarray(z["weight"].T), "norm": {"scale": jnp.asarray(z["norm_weight"])}}
    linear = SubLNLinear(20, eps=1e-6, ternary=True)
    y, back = jax.vjp(lambda p, x: linear.apply({"params": p}, x), params, jnp.asarray(z["x"]))
    grads, dx = back(jnp.asarray(z["dy"]))
    found = (y, dx, grads["kernel"], grads["norm"]["scale"])
    for got, wanted in zip(found, ("y_norm", "dx_norm", "dweight_norm", "dnorm_weight"), strict=True):
        wanted = z[wanted].T if wanted == "dweight_norm" else z[wanted]
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=5e-6)


def test_subln_is_a_norm_and_a_dense_product(tiny):
    x = jax.random.normal(jax.random.key(0), (2, 3, 8))
    linear = linears(tiny("model.linear=subln", "model.bias=true", "model.norm_eps=1e-3").model)(5)
    params = linear.init(jax.random.key(1), x)["params"]
    assert jax.tree.map(jnp.shape, params) == {"bias": (5,), "kernel": (8, 5), "norm": {"scale": (8,)}}
    params = jax.tree.map(lambda p: p + 0.3, params)
    wanted = RMSNorm(1e-3).apply({"params": params["norm"]}, x) @ params["kernel"] + params["bias"][None, None]
    np.testing.assert_allclose(linear.apply({"params": params}, x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_rounded_beforehand_it_is_the_same_to_the_bit(dtype):
    """As wide as whole numbers get: 512 levels of 127 against trits of one sign would be too large for float16."""
    x = jnp.where(jnp.arange(512) % 7 > 0, 3.0, jax.random.normal(jax.random.key(0), (4, 512))).astype(dtype)
    kernel = 0.1 + 0.02 * jax.random.normal(jax.random.key(1), (512, 6))
    now = jax.jit(quantized.ternary_product)(x, kernel)
    before = jax.jit(quantized.levels_product)(x, *quantized.ternary(kernel))
    assert now.dtype == dtype and np.isfinite(np.asarray(now, np.float32)).all()
    np.testing.assert_array_equal(now, before)


def test_int8_kernel():
    """Half a level is the largest error, each output uses all of its levels, and zeros stay zeros."""
    kernel = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32) * np.array(
        [[1, 1e-3, 50, 1, 0]], np.float32
    )
    levels, scale = quantized.int8(jnp.asarray(kernel))
    assert levels.dtype == jnp.int8 and scale.shape == (5,)
    assert (np.abs(levels * scale[None] - kernel) <= scale[None] * 0.501).all()
    np.testing.assert_array_equal(np.abs(np.asarray(levels)).max(axis=0), [127, 127, 127, 127, 0])
    x = np.random.default_rng(1).normal(size=(3, 9)).astype(np.float32)
    y = quantized.levels_product(jnp.asarray(x), levels, scale)
    bound = np.abs(x).max(axis=1, keepdims=True) / 254 * np.abs(levels * scale[None]).sum(axis=0)
    assert (np.abs(y - x @ np.asarray(levels * scale[None])) <= bound * 1.01 + 1e-6).all()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_int8_product(rows):
    rng = np.random.default_rng(rows)
    x, weights = (rng.integers(-128, 128, size=shape).astype(np.int8) for shape in [(rows, 300), (300, 7)])
    got = quantized.int8_product(jnp.asarray(x), jnp.asarray(weights))
    np.testing.assert_array_equal(got, x.astype(np.int64) @ weights)


@pytest.mark.parametrize("scales", [(), (5,)], ids=["one scale", "a scale an output"])
def test_the_gradient_of_a_product_with_levels(scales):
    """Against finite differences of the product with the weights that levels and scale stand for: by x as if it were
    not rounded, by the scale exactly, of the rounded x."""
    rng = np.random.default_rng(0)
    x, last = rng.normal(size=(6, 8)), rng.normal(size=(6, 5))
    weights, scale = rng.integers(-127, 128, size=(8, 5)).astype(np.int8), rng.uniform(0.01, 0.02, size=scales)
    levels, unit = quantized.token_levels(jnp.asarray(x, jnp.float32))
    rounded = np.asarray(levels, np.float64) / np.asarray(unit, np.float64)

    def loss(x, scale):
        return np.sum(np.sin(x @ (weights * scale)) * last)

    def differences(function, at, h=1e-6):
        found = np.zeros(at.shape)
        for index in np.ndindex(at.shape):
            step = np.zeros(at.shape)
            step[index] = h
            found[index] = (function(at + step) - function(at - step)) / (2 * h)
        return found

    ours = lambda x, scale: jnp.sum(jnp.sin(quantized.levels_product(x, jnp.asarray(weights), scale)) * last)
    by_x, by_scale = jax.jit(jax.grad(ours, (0, 1)))(jnp.asarray(x, jnp.float32), jnp.asarray(scale, jnp.float32))
    np.testing.assert_allclose(by_x, differences(lambda x: loss(x, scale), rounded), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(by_scale, differences(lambda s: loss(rounded, s), scale), rtol=1e-3, atol=1e-2)


def test_a_gradient_passes_a_layer_of_int8(tiny):
    """What trains below kernels that are kept as int8 moves as it does below those that they stand for."""
    model = build_model(tiny("model.layers=1", "model.tie=false"), 11)
    tokens = jax.random.randint(jax.random.key(0), (2, 6), 0, 11)
    params = jax.jit(model.init)(jax.random.key(1), tokens)["params"]
    packed, leaves = precision.prepare(model, params, "int8")
    loss = lambda model, params: (
        lambda e: jnp.sum(jnp.sin(model.apply({"params": params | {"embedding": e}}, tokens)[0]))
    )
    got, wanted = (jax.jit(jax.grad(loss(*pair)))(params["embedding"]) for pair in ((packed, leaves), (model, params)))
    apart = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
    assert 0 < apart < 0.1, apart


def test_one_row_reads_weights_as_bytes():
    """The compiled program holds no kernel of wider numbers: that would cost four times the memory traffic."""
    args = (
        jax.ShapeDtypeStruct((1, 96), jnp.float32),
        jax.ShapeDtypeStruct((96, 160), jnp.int8),
        jax.ShapeDtypeStruct((), jnp.float32),
    )
    program = jax.jit(quantized.levels_product).lower(*args).compile().as_text()
    kernels = set(re.findall(r"(\w+)\[(?:96,160|160,96|1,96,160)\]", program))
    assert kernels == {"s8"}, kernels


def test_kfac_sees_it(tiny):
    """The inputs behind the norm, before their rounding, and the gradients by the outputs."""
    linear = linears(tiny("model.linear=ternary", "model.bias=true").model)(4)
    x, last = jax.random.normal(jax.random.key(0), (2, 3, 8)), jax.random.normal(jax.random.key(1), (2, 3, 4))
    params = linear.init(jax.random.key(2), x)["params"]
    seen = capture.moments(lambda p: jnp.sum(linear.apply({"params": p}, x) * last), params, ["kernel"], 2)["kernel"]
    a, g = (
        np.asarray(RMSNorm(1e-5).apply({"params": params["norm"]}, x)).reshape(-1, 8),
        np.asarray(last).reshape(-1, 4),
    )
    assert seen.number == 6
    np.testing.assert_allclose(seen.inputs, a.T @ a, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(seen.outputs, g.T @ g, rtol=1e-5, atol=1e-5)


# Bytes.


@given(st.sampled_from(sorted(PACKINGS)), st.integers(1, 23), st.integers(1, 5), st.integers(0, 99))
def test_packed_and_back(name, rows, columns, seed):
    packing = PACKINGS[name]
    trits = np.random.default_rng(seed).integers(-1, 2, size=(rows, columns)).astype(np.int8)
    packed = packing.pack(trits)
    assert packed.dtype == np.uint8 and packed.shape == (-(-rows // {"2bit": 4, "base3": 5}[name]), columns)
    again = packing.unpack(packed, rows)
    assert again.dtype == np.int8
    np.testing.assert_array_equal(again, trits)


def test_golden_bytes(golden):
    """Ten rows fill two and a half rows of bytes; what is left of the third decodes to -1, and is cut off."""
    z = np.load(golden / "bitnet" / "pack_10rows.npz")
    packing = PACKINGS["2bit"]
    np.testing.assert_array_equal(packing.pack(z["ternary"]), z["packed_uint8"])
    np.testing.assert_array_equal(packing.unpack(z["packed_uint8"], 12), z["unpacked"])
    np.testing.assert_array_equal(packing.unpack(z["packed_uint8"], 10), z["ternary"])


def test_every_byte_of_three_digits_and_no_other():
    """Of 256 bytes 243 are five trits, and 81 four pairs of bits that are no 3."""
    for name, count in [("base3", 243), ("2bit", 81)]:
        packing, sound = PACKINGS[name], []
        for byte in range(256):
            try:
                sound.append(tuple(packing.unpack(np.full((1, 1), byte, np.uint8), packing.trits)[:, 0]))
            except ValueError as error:
                assert str(byte) in str(error)
        assert len(sound) == len(set(sound)) == count and {t for row in sound for t in row} == {-1, 0, 1}
