"""Tensor trains beside their dense matrices, and what the rest of the package makes of their cores. The laws of
test_decoder.py hold for their words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.evaluation import cost
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import capture, precision, roles, tt
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.layers import INITS
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.training import optimizers


def linear(fan_in, features, cores, ranks, gain=1.0):
    layer = tt.TTLinear(features, cores, ranks, INITS["normal"], gain)
    return layer, layer.init(jax.random.key(0), jnp.zeros((1, fan_in)))["params"]


def dense(params, shape):
    """The kernel by its definition, entry by entry, in float64."""
    cores = []
    for k, (n, m) in enumerate(zip(shape.inputs, shape.outputs, strict=True)):
        core = np.asarray(params[f"core_{k}"], np.float64)
        cores.append(core.reshape(shape.ranks[k], n, m, shape.ranks[k + 1]))
    made = np.zeros((np.prod(shape.inputs), np.prod(shape.outputs)))
    for i, rows in enumerate(np.ndindex(*shape.inputs)):
        for j, columns in enumerate(np.ndindex(*shape.outputs)):
            product = np.eye(1)
            for core, row, column in zip(cores, rows, columns, strict=True):
                product = product @ core[:, row, column]
            made[i, j] = product.item()
    return made


@pytest.mark.parametrize(
    "fan_in, features, cores, ranks", [(12, 8, 2, "3"), (24, 12, 3, "2 5"), (16, 24, 4, "3"), (7, 6, 2, "2")]
)
def test_linear_is_its_dense_matrix(fan_in, features, cores, ranks):
    """Value and gradients; 7 has no factors but 1 and 7."""
    layer, params = linear(fan_in, features, cores, ranks)
    shape = tt.Shape.of(fan_in, features, cores, ranks)
    kernel = dense(params, shape)
    x = jax.random.normal(jax.random.key(1), (3, 5, fan_in))
    run = jax.jit(lambda params, x: layer.apply({"params": params}, x))
    np.testing.assert_allclose(run(params, x), x @ kernel, atol=1e-5)

    def plain(params, x):
        made = jnp.ones((1, 1))
        for k, (n, m) in enumerate(zip(shape.inputs, shape.outputs, strict=True)):
            core = params[f"core_{k}"].reshape(shape.ranks[k], n, m, shape.ranks[k + 1])
            made = jnp.tensordot(made, core, 1)  # (1, n_1, m_1, n_2, m_2, ..., r)
        rows, columns = range(1, 2 * cores, 2), range(2, 2 * cores + 1, 2)
        return x @ made[..., 0].transpose(0, *rows, *columns).reshape(fan_in, features)

    slope = lambda f: jax.jit(jax.grad(lambda *given: jnp.sum(jnp.sin(f(*given))), (0, 1)))
    slopes = [slope(f)(params, x) for f in (run, plain)]
    for got, wanted in zip(*map(jax.tree.leaves, slopes), strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-5 * np.abs(wanted).max())


def test_full_ranks_make_every_matrix():
    """Two cores of rank n_1 m_1 hold any kernel: its reshaped singular value decomposition."""
    wanted = np.random.default_rng(0).normal(size=(12, 8))
    layer, _ = linear(12, 8, 2, "8")
    unfolded = wanted.reshape(4, 3, 2, 4).transpose(0, 2, 1, 3).reshape(8, 12)  # (n_1 m_1, n_2 m_2)
    u, s, v = np.linalg.svd(unfolded, full_matrices=False)
    first, second = u * s, v  # (n_1 m_1, r), (r, n_2 m_2)
    cores = {
        "core_0": jnp.asarray(first.reshape(4, 2, 8).reshape(4, 16), jnp.float32),
        "core_1": jnp.asarray(second.reshape(8, 3, 4).reshape(24, 4), jnp.float32),
    }
    assert tt.Shape.of(12, 8, 2, "8").inputs == (4, 3) and tt.Shape.of(12, 8, 2, "8").outputs == (2, 4)
    np.testing.assert_allclose(np.asarray(layer.apply({"params": cores}, jnp.eye(12))), wanted, atol=1e-5)


def test_factors():
    assert [tt.factors(*given) for given in ((384, 3), (7, 3), (96, 2), (1, 2), (1536, 4))] == [
        (6, 8, 8),
        (1, 1, 7),
        (8, 12),
        (1, 1),
        (4, 6, 8, 8),
    ]


@pytest.mark.parametrize("ranks", ["4", "2 16"])
def test_it_begins_as_a_dense_kernel_does(ranks):
    """Entries of deviation gain / sqrt(D) and mean 0."""
    made = [linear(96, 192, 3, ranks, gain=0.5)]
    layer = made[0][0]
    draw = jax.jit(lambda key: layer.apply(layer.init(key, jnp.zeros((1, 96))), jnp.eye(96)))
    kernels = np.stack([draw(jax.random.key(seed)) for seed in range(8)])
    assert abs(kernels.std() * 96**0.5 / 0.5 - 1) < 0.1 and abs(kernels.mean()) < 0.05 * kernels.std()


def test_weights_and_products_are_counted(tiny):
    """As the compiler counts them: of a token, each weight as often as it is used."""
    layer, params = linear(48, 96, 3, "4")
    shape = tt.Shape.of(48, 96, 3, "4")
    assert shape == ((4, 4, 3), (4, 4, 6), (1, 4, 4, 1))
    assert sum(leaf.size for leaf in params.values()) == 4 * 16 + 16 * 16 + 12 * 6
    products = sum(uses * rows * columns for uses, (rows, columns) in zip(shape.uses, shape.sides, strict=True))
    compiled = jax.jit(lambda p, x: layer.apply({"params": p}, x)).lower(params, jnp.zeros((64, 48))).compile()
    assert cost.compiled_flops(compiled) == pytest.approx(2 * 64 * products, rel=0.02)

    settings = tiny("model.channel=tt", "model.tt.ranks=2 3")
    model = build_model(settings, 9)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    plain = sum(leaf.size for path, leaf in paths(params).items() if "core" not in path)
    up, down = (tt.Shape.of(*sides, 3, "2 3") for sides in ((32, 48), (48, 32)))
    cores = sum(
        often * rows * columns
        for shape, number in ((up, 2), (down, 1))
        for often, (rows, columns) in zip(shape.uses * number, shape.sides * number, strict=True)
    )
    assert cost.multiplied(settings.model, params) == plain + 2 * cores


def test_optimizers_take_its_cores(tiny):
    """Muon, SOAP and K-FAC as matrices; they decay, are cast, and lie in a packed file as float16."""
    settings = tiny("model.linear=tt", "model.layers=1")
    params = jax.eval_shape(build_model(settings, 9).init, jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    cores = [path for path in paths(params) if "core" in path]
    assert len(cores) == 7 * 3
    for name in ("muon", "soap", "kfac"):
        rules = optimizers.rules(tiny(f"train.optimizer={name}").train, params)
        assert {rules[path] for path in cores} == {name}
    role = roles.of(cores[0])
    assert (role.decay, role.cast, role.stored, role.turned) == (True, True, "half", False)


def test_moments_of_a_core_are_those_of_its_products(tiny):
    """What K-FAC is given of each core: sums over all vectors that it multiplies, of which a token has several."""
    model = build_model(tiny("model.channel=tt", "model.layers=1", "model.tt.ranks=2"), 9)
    tokens = jnp.arange(12).reshape(2, 6) % 9
    params = jax.jit(model.init)(jax.random.key(0), tokens)["params"]
    loss = lambda params: jnp.sum(jnp.sin(model.apply({"params": params}, tokens)[0]))
    names = [path for path in paths(params) if "core" in path]
    found = jax.jit(lambda params: capture.moments(loss, params, names, rows=2))(params)
    shape = tt.Shape.of(32, 48, 3, "2")
    for k, (uses, (rows, columns)) in enumerate(zip(shape.uses, shape.sides, strict=True)):
        m = found[f"block_0/channel/up/core_{k}"]
        assert m.inputs.shape == (rows, rows) and m.outputs.shape == (columns, columns)
        assert m.number == 12 * uses
        assert np.linalg.eigvalsh(m.inputs).min() > -1e-4 and np.trace(m.outputs) > 0


def test_int8_and_ternary(tiny):
    """Cores stay as they are beside kernels of int8; where there are no such kernels both are refused by name."""
    tokens = jnp.arange(6)[None] % 9
    model = build_model(tiny("model.channel=tt", "model.layers=1"), 9)
    params = jax.jit(model.init)(jax.random.key(0), tokens)["params"]
    rounded, held = precision.prepare(model, params, "int8")
    assert held["block_0"]["channel"]["up"].keys() == {"core_0", "core_1", "core_2"}
    assert held["block_0"]["mixer"]["query"]["kernel_int8"].dtype == jnp.int8
    run = lambda model, params: np.asarray(jax.jit(model.apply)({"params": params}, tokens)[0])
    plain, near = run(model, params), run(rounded, held)
    assert 0 < np.abs(near - plain).max() < 0.1
    model = build_model(tiny("model.linear=tt"), 9)
    params = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    with pytest.raises(UserError, match=r"int8: the Linears of this model are made of factors \(model\.linear=tt\)"):
        precision.prepare(model, params, "int8")
    with pytest.raises(UserError, match=r"ternary: this model was trained with model\.linear=tt"):
        precision.prepare(model, params, "ternary")


@pytest.mark.parametrize("ranks", ["", "0", "8 x", "2.5", "-3"])
def test_ranks_that_are_none(ranks, tiny):
    with pytest.raises(UserError, match=r"config\.model\.tt\.ranks: .*must be whole numbers above 0"):
        tiny(f"model.tt.ranks={ranks}")
