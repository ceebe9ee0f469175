"""What the Linears see: against golden factors, the exact Gauss-Newton matrix, sums by hand, and true gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.models import capture, roles
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.layers import Linear
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.training.state import initial_state


@pytest.fixture(autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


class Two(nn.Module):
    """Linear, GELU or nothing, Linear, with biases."""

    gelu: bool

    @nn.compact
    def __call__(self, x):
        x = Linear(7, name="l1")(x) + self.param("b1", nn.initializers.zeros, (7,))[None, None]
        x = nn.gelu(x, approximate=False) if self.gelu else x
        return Linear(3, name="l2")(x) + self.param("b2", nn.initializers.zeros, (3,))[None, None]


def loaded(golden, name):
    z = np.load(golden / name / "arrays.npz")
    params = {f"l{i}": {"kernel": jnp.asarray(z[f"W/l{i}.weight"].T)} for i in (1, 2)}
    return z, params | {f"b{i}": jnp.asarray(z[f"W/l{i}.bias"]) for i in (1, 2)}, jnp.asarray(z["x"])


def mse_roots(outputs):
    """Columns (C, ..., C) of a root of the Hessian of the mean square over C outputs."""
    count = outputs.shape[-1]
    return [jnp.broadcast_to(row, outputs.shape) for row in np.sqrt(2 / count) * np.eye(count)]


def ce_roots(logits):
    """The same of the cross entropy: diag(p) - p p' is the sum of p_c (e_c - p)(e_c - p)'."""
    p = jax.lax.stop_gradient(jax.nn.softmax(logits))
    eye = np.eye(p.shape[-1])
    return [jnp.sqrt(p[..., c, None]) * (jnp.reshape(eye[c], (1,) * (p.ndim - 1) + (-1,)) - p) for c in range(len(eye))]


def exact_factors(outputs, roots, params, names, rows, reduce, terms):
    """{name: (A, B)}, B from every column of the root of the losses' Hessian, instead of draws."""
    total = {}
    for c in range(len(roots(jax.eval_shape(outputs, params)) if roots is mse_roots else roots(outputs(params)))):
        loss = lambda p, c=c: jnp.sum(outputs(p) * roots(outputs(p))[c])
        for name, m in capture.moments(loss, params, names, rows, reduce).items():
            a, b = m.inputs / m.number, m.outputs / terms
            total[name] = (a, total[name][1] + b) if name in total else (a, b)
    return total


@pytest.mark.parametrize(("name", "roots"), [("kfac_expand_ce", ce_roots), ("kfac_expand_mse", mse_roots)])
def test_expand_factors_are_the_golden_ones(name, roots, golden):
    z, params, x = loaded(golden, name)
    model = Two(gelu=name == "kfac_expand_ce")
    outputs = lambda p: model.apply({"params": p}, x)
    found = exact_factors(outputs, roots, params, ["l1/kernel", "l2/kernel"], 4, False, 20)
    for layer in ("l1", "l2"):
        a, b = found[f"{layer}/kernel"]
        np.testing.assert_allclose(a, z[f"A/{layer}"], rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(b, z[f"B/{layer}"], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("pooled", [False, True], ids=["a loss a position", "a loss a row"])
def test_kfac_of_a_deep_linear_net_is_its_gauss_newton_matrix(pooled, golden):
    """Exactly, where the sharing matches the loss (Eschenhagen et al. 2023, proposition 1); else it is far off."""
    z, params, x = loaded(golden, "kfac_expand_mse")

    def outputs(p):
        y = Two(gelu=False).apply({"params": p}, x)
        return y.mean(axis=1) if pooled else y.reshape(-1, 3)

    terms = 4 if pooled else 20
    for name in ("l1/kernel", "l2/kernel"):
        layer = name.split("/")[0]
        block = jax.jacobian(lambda kernel, layer=layer: outputs(params | {layer: {"kernel": kernel}}))
        jacobian = np.asarray(block(params[layer]["kernel"])).reshape(terms * 3, -1)
        wanted = jacobian.T @ jacobian * 2 / 3 / terms
        if not pooled:  # ours and the golden one's weights are transposes
            places = np.arange(73)[:42].reshape(7, 6).T if layer == "l1" else np.arange(49, 70).reshape(3, 7).T
            np.testing.assert_allclose(wanted, z["GGN"][np.ix_(places.ravel(), places.ravel())], atol=1e-12)
        error = {}
        for reduce in (False, True):
            a, b = exact_factors(outputs, mse_roots, params, [name], 4, reduce, terms)[name]
            error[reduce] = np.linalg.norm(np.kron(a, b) - wanted) / np.linalg.norm(wanted)
        assert error[pooled] < 1e-12
        assert error[not pooled] > 0.3


class Looped(nn.Module):
    """x <- tanh(x W), `times` times: in a loop, recomputed, or written out."""

    times: int
    how: str

    @nn.compact
    def __call__(self, x):
        params = {"kernel": self.variable("params", "kernel", lambda: 0).value}
        if self.has_variable("params", capture.WATCH):
            params[capture.WATCH] = self.get_variable("params", capture.WATCH)
        cell = lambda x: jnp.tanh(Linear(x.shape[-1], parent=None).apply({"params": params}, x))
        if self.how == "scan":
            return jax.lax.scan(lambda x, _: (cell(x), None), x, None, length=self.times)[0]
        for _ in range(self.times):
            x = jax.checkpoint(cell)(x) if self.how == "recomputed" else cell(x)
        return x


@pytest.mark.parametrize("reduce", [False, True], ids=["expand", "reduce"])
@pytest.mark.parametrize("how", ["plain", "scan", "recomputed"])
def test_a_weight_used_three_times_has_three_times_the_positions(how, reduce):
    """Inputs and output gradients of each use by hand."""
    rng = np.random.default_rng(0)
    kernel, x, last = rng.normal(size=(4, 4)) / 2, rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 5, 4))
    inputs, gradients, g = [x], [], last
    for _ in range(3):
        inputs.append(np.tanh(inputs[-1] @ kernel))
    for y in inputs[:0:-1]:
        gradients.append(g * (1 - y**2))
        g = gradients[-1] @ kernel.T
    a, g = np.stack(inputs[:3], 1), np.stack(gradients, 1)  # (rows, uses, positions, 4)
    if reduce:
        a, g = a.mean(axis=(1, 2)), g.sum(axis=(1, 2))
    a, g = a.reshape(-1, 4), g.reshape(-1, 4)

    loss = lambda p: jnp.sum(Looped(3, how).apply({"params": p}, x) * last)
    m = capture.moments(loss, {"kernel": jnp.asarray(kernel)}, ["kernel"], 3, reduce)["kernel"]
    assert m.number == len(a) == (3 if reduce else 45)
    np.testing.assert_allclose(m.inputs, a.T @ a, rtol=1e-12)
    np.testing.assert_allclose(m.outputs, g.T @ g, rtol=1e-12)


ARCHITECTURES = [
    ("model.tie=false", "train.remat=true", "model.layers=1"),
    ("model.linear=monarch", "model.monarch.blocks=2", "model.mixer=monarch monarch_heads", "model.layers=2"),
    ("model.depth=ode", "model.ode.steps=1", "model.ode.time=lowrank", "model.layers=1"),
]


@pytest.mark.parametrize("words", ARCHITECTURES, ids=lambda words: " ".join(w.split(".")[-1] for w in words[:3]))
def test_every_linear_is_seen_and_its_gradient_is_true(words, tiny):
    """With one position the gradient of a weight is a g': then A tr(B) = G G', to which only the right a and g lead."""
    with jax.enable_x64(False):
        config = tiny("model.width=16", *words)
        model = build_model(config, 11)
        params = jax.jit(lambda: initial_state(config, model).params)()
        params = jax.tree.map(lambda p: p + 0.01, params)  # some start at 0
        tokens = jnp.array([[3]])
        names = [path for path in paths(params) if roles.of(path).tapped]
        assert {path.split("/")[-1] for path in names} >= ({"left", "right"} if "monarch" in words[0] else {"kernel"})
        assert ("head" in names) == ("model.tie=false" in words)
        loss = lambda p: jnp.sum(jax.nn.log_softmax(model.apply({"params": p}, tokens)[0])[..., 5])
        seen, grads = jax.jit(lambda p: (capture.moments(loss, p, names, 1), jax.grad(loss)(p)))(params)
    grads = {path: np.asarray(g, np.float64) for path, g in paths(grads).items()}
    for path in names:
        m, g = seen[path], grads[path]
        assert m.number == 1
        g = g if g.ndim == 3 else g.T[None]  # (blocks, out, in)
        a, b = (np.asarray(x, np.float64).reshape(-1, *x.shape[-2:]) for x in m[:2])
        size = np.sum(g**2, axis=(1, 2))
        assert (size > 0).all() or path.split("/")[-2] in ("query", "key"), path  # one position attends to itself
        trace = lambda x: np.trace(x, axis1=1, axis2=2)[:, None, None]
        np.testing.assert_allclose(a * trace(b), g.mT @ g, rtol=1e-3, atol=1e-4 * size.max(), err_msg=path)
        np.testing.assert_allclose(b * trace(a), g @ g.mT, rtol=1e-3, atol=1e-4 * size.max(), err_msg=path)


@pytest.mark.parametrize("adjoint", ["recursive", "reversible"])
def test_an_ode_is_seen_through_each_adjoint(adjoint, tiny):
    """As many positions as evaluations, of which the reversible form takes twice as many."""
    with jax.enable_x64(False):
        config = tiny("model.width=8", "model.layers=1", "model.depth=ode", f"model.ode.adjoint={adjoint}")
        model = build_model(config, 11)
        params = jax.jit(lambda: initial_state(config, model).params)()
        tokens = jax.random.randint(jax.random.key(0), (2, 3), 0, 11)
        names = [path for path in paths(params) if roles.of(path).tapped]
        loss = lambda p: jnp.sum(jax.nn.log_softmax(model.apply({"params": p}, tokens)[0])[..., 5])
        found = jax.jit(lambda p: capture.moments(loss, p, names, 2))(params)
        assert {float(m.number) for m in found.values()} == {2 * 3 * 2 * (2 if adjoint == "reversible" else 1)}
        assert all(float(jnp.trace(m.outputs)) > 0 for m in found.values())
