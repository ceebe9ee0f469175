"""Kernels in few bits: as their authors keep them, with the gradient of the dense product, and no dense copy kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.models import frozen
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import count, paths

ROWS, COLUMNS = 70, 6  # the last block of each form is not full


@pytest.fixture(scope="module")
def kernel():
    return jax.random.normal(jax.random.key(0), (ROWS, COLUMNS)) * jnp.linspace(0.01, 1, ROWS)[:, None]


@pytest.mark.parametrize("form", frozen.FORMS)
def test_a_kernel_comes_back_near_and_then_stays(form, kernel):
    """Within half a step of its block, and what has been rounded once is not moved again."""
    packed = frozen.FORMS[form].pack(kernel)
    wanted = frozen.FORMS[form].shapes(*kernel.shape)
    assert {name: (array.shape, array.dtype) for name, array in packed.items()} == {
        name: (shape, jnp.dtype(dtype)) for name, (shape, dtype) in wanted.items()
    }
    back = frozen.FORMS[form].unpack(packed, ROWS)
    blocks = [np.asarray(kernel)[at : at + 64] for at in (0, 64)]
    largest = np.concatenate([np.broadcast_to(np.abs(block).max(axis=0), block.shape) for block in blocks])
    whole = np.abs(np.asarray(kernel)).max(axis=0)
    half = {"int8": whole / 254, "nf4": 0.16 * largest, "q4_1": 1.002 * largest / 15}[form]
    assert (np.abs(back - kernel) <= half + 1e-6).all()
    assert np.abs(back - kernel).max() > 0
    np.testing.assert_allclose(frozen.rounded(back, form), back, atol=1e-7)


def test_nf4_takes_the_nearest_level(kernel):
    """Of the sixteen of the paper, in units of the largest of 64 rows."""
    assert len(frozen.NF4) == 16 and (np.diff(frozen.NF4) > 0).all() and frozen.NF4[7] == 0
    block = np.asarray(kernel)[:64]
    largest = np.abs(block).max(axis=0)
    nearest = np.abs(block[..., None] / largest[:, None] - frozen.NF4).argmin(axis=-1)
    np.testing.assert_allclose(frozen.rounded(kernel, "nf4")[:64], frozen.NF4[nearest] * largest, atol=1e-7)


def test_q4_1_is_that_of_a_gguf_file():
    """What the library gguf makes of a file's blocks is kept as these very blocks."""
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType.Q4_1
    rows = np.asarray(jax.random.normal(jax.random.key(1), (COLUMNS, 64)))  # theirs are (out, in)
    raw = gguf.quants.quantize(rows, kind)
    theirs = gguf.quants.dequantize(raw, kind)
    ours = frozen.FORMS["q4_1"].pack(jnp.asarray(theirs.T))
    blocks = raw.reshape(COLUMNS, 2, 20)
    np.testing.assert_array_equal(ours["step"].T, blocks[..., :2].copy().view(np.float16)[..., 0])
    np.testing.assert_array_equal(ours["least"].T, blocks[..., 2:4].copy().view(np.float16)[..., 0])
    np.testing.assert_array_equal(ours["q4_1"].T.reshape(COLUMNS, 2, 16), blocks[..., 4:])
    np.testing.assert_allclose(frozen.FORMS["q4_1"].unpack(ours, 64).T, theirs, atol=1e-7)


@pytest.mark.parametrize("form", frozen.FORMS)
def test_the_gradient_is_that_of_the_dense_product(form, kernel):
    x = jax.random.normal(jax.random.key(2), (5, ROWS))
    packed, dense = frozen.FORMS[form].pack(kernel), frozen.rounded(kernel, form)
    ours = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(frozen.product(x, packed, form)))))(x)
    theirs = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(x @ dense))))(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, theirs)


@pytest.mark.parametrize("form", frozen.FORMS)
def test_adapters_beside_frozen_kernels_have_the_gradients_beside_dense_ones(form, tiny):
    """A whole model: the same kernels, rounded, as a dense base. Its parameters are counted as they were."""
    flags = ["model.layers=1", "model.width=16", "model.ffn_mult=2", "adapter.rank=2", "train.init=base"]
    model, dense = (build_model(tiny(*flags, f"adapter.base={word}"), 11) for word in (form, "float"))
    tokens = jax.random.randint(jax.random.key(0), (2, 6), 0, 11)
    params = jax.jit(dense.init)(jax.random.key(1), tokens)["params"]
    lora = {path: leaf for path, leaf in paths(params).items() if "lora" in path}
    assert lora
    nudged = jax.tree.map(lambda leaf: leaf + 0.1, params)
    packed = frozen.freeze(nudged, form)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(1), tokens)["params"])
    look = lambda tree: {path: (leaf.shape, leaf.dtype) for path, leaf in paths(tree).items()}
    assert look(packed) == look(shapes)
    if form != "int8":
        kernels = sum(leaf.nbytes for path, leaf in paths(packed).items() if "kernel" in path)
        whole = sum(leaf.nbytes for path, leaf in paths(nudged).items() if "kernel" in path)
        assert kernels < 0.6 * whole, "a width of 16 fills a quarter of a block"
    rounded = {p: frozen.rounded(x, form) if p.endswith("kernel") else x for p, x in paths(nudged).items()}
    like = jax.tree.unflatten(jax.tree.structure(nudged), list(rounded.values()))
    loss = lambda model: lambda params: jnp.sum(jnp.tanh(model.apply({"params": params}, tokens)[0]) ** 2)
    ours = paths(jax.jit(jax.grad(loss(model), allow_int=True))(packed))
    theirs = paths(jax.jit(jax.grad(loss(dense)))(like))
    for path in lora:
        np.testing.assert_allclose(ours[path], theirs[path], rtol=1e-4, atol=1e-5 * np.abs(theirs[path]).max())
        assert np.abs(theirs[path]).max() > 0


def test_full_blocks_are_counted_as_what_they_stand_for():
    kernels = {"block_0": {"mixer": {"query": {"kernel": jnp.ones((128, 4))}}}}
    assert {form: count(frozen.freeze(kernels, form)) for form in frozen.FORMS} == dict.fromkeys(frozen.FORMS, 512)


@pytest.mark.parametrize("form", frozen.FORMS)
def test_the_backward_pass_makes_kernels_again(form):
    """A deep stack of products with its gradient needs no room for all of its dense kernels at once."""
    width, depth = 256, 12
    packed = [frozen.FORMS[form].pack(jnp.eye(width) * (i + 1)) for i in range(depth)]

    def loss(x, packed):
        for arrays in packed:
            x = jnp.tanh(frozen.product(x, arrays, form))
        return jnp.sum(x)

    memory = jax.jit(jax.grad(loss)).lower(jnp.ones((4, width)), packed).compile().memory_analysis()
    assert memory.temp_size_in_bytes < depth / 2 * width * width * 4
