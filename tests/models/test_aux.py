"""What a channel has to say reaches the caller: by layer through stacks, recomputation and loops, summed over the
evaluations of an ODE under every adjoint, with its gradient; and pads are marked for it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import ode
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.channels import CHANNELS, SwiGLU

VOCAB, B, T, SLOTS = 11, 3, 5, 8


class Told(SwiGLU):
    """SwiGLU that says the mean square of its input over tokens that exist, how many exist, and what else it is asked
    to."""

    whole: bool = False

    @nn.compact
    def __call__(self, x, real):
        y, _ = SwiGLU(self.model, self.gain, self.linear, name="inner")(x, real)
        real = jnp.broadcast_to(real, x.shape[:2])
        size = jnp.sum(jnp.where(real, jnp.mean(x**2, axis=-1), 0)) / jnp.maximum(jnp.sum(real), 1)
        aux = {"size": size.astype(jnp.float32), "real": {"count": jnp.sum(real, axis=1).astype(jnp.float32)}}
        return y, aux | ({"whole": jnp.sum(real)} if self.whole else {})


@pytest.fixture(autouse=True)
def told(monkeypatch):
    monkeypatch.setitem(CHANNELS, "told", Told)


def made(tiny, *flags: str):
    model = build_model(tiny("model.channel=told swiglu", "model.width=16", "model.layers=3", *flags), VOCAB)
    tokens = jax.random.randint(jax.random.key(0), (B, T), 0, VOCAB)
    params = jax.jit(model.init)(jax.random.key(1), tokens)["params"]
    return model, jax.tree.map(lambda p: p + 0.1, params), tokens


@pytest.mark.long
def test_by_layer(tiny):
    """Layers 0 and 2 have something to say; recomputed, they say the same and have the same gradient."""
    model, params, tokens = made(tiny)
    aux = model.apply({"params": params}, tokens)[2]
    assert aux.keys() == {"size", "real"} and len(aux["size"]) == 2
    np.testing.assert_array_equal(aux["real"][0]["count"], [T] * B)
    assert aux["size"][0] != aux["size"][1]

    def run(model):
        return jax.jit(jax.value_and_grad(lambda p: sum(model.apply({"params": p}, tokens)[2]["size"])))(params)

    again = model.clone(remat=True, parent=None)
    (value, grads), (other, same) = run(model), run(again)
    np.testing.assert_allclose(other, value, rtol=1e-6)
    assert value == pytest.approx(float(sum(aux["size"])), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), grads, same)


@pytest.mark.long
def test_pads_are_marked(tiny):
    """With a cache by its slots, of attention and of a Monarch mixer; without one by the end of the text."""
    for mixer in ("attention", "monarch", "monarch_heads"):
        model, params, tokens = made(tiny, f"model.mixer={mixer}", f"model.context={SLOTS}")
        lengths = np.array([5, 1, 3])
        positions = np.where(np.arange(T)[None] < lengths[:, None], np.arange(T)[None], SLOTS)
        for cache in (None, model.init_cache(B, SLOTS)):
            aux = jax.jit(model.apply)({"params": params}, tokens, positions, cache)[2]
            np.testing.assert_array_equal(aux["real"][1]["count"], lengths)


def by_hand(model, params, tokens, steps: int, speed: float):
    """Sum over Euler's steps of what the one block says, its field being autonomous."""
    (block,), x, total = model.blocks(), params["embedding"][tokens], 0.0
    for _ in range(steps):
        change, _, aux = block.apply({"params": params["block_0"]}, x, jnp.arange(T)[None])
        x, total = x + change * speed / steps, total + aux["size"] * speed / steps
    return total


@pytest.mark.long
@pytest.mark.parametrize("adjoint", [*ode.ADJOINTS, "adaptive"])
def test_an_ode_adds_up(adjoint, tiny):
    """Under each adjoint: the integral, and its gradient; exact where the adjoint's is."""
    flags = ["model.depth=ode", "model.ode.time=none", "model.ode.speed=2", "model.layers=1"]
    if adjoint == "adaptive":
        flags += ["model.ode.solver=bosh3", "model.ode.rtol=1e-4"]
    else:
        flags += [f"model.ode.adjoint={adjoint}", f"model.ode.steps={64 if adjoint == 'reversible' else 2}"]
    model, params, tokens = made(tiny, *flags)
    steps = 64 if adjoint in ("reversible", "adaptive") else 2
    ours = lambda p: model.apply({"params": p}, tokens)[2]["size"][0]
    value, grads = jax.jit(jax.value_and_grad(ours))(params)
    wanted, exact = jax.jit(jax.value_and_grad(lambda p: by_hand(model, p, tokens, steps, 2.0)))(params)
    near = {"reversible": 0.03, "adaptive": 0.03}.get(adjoint, 1e-5)
    np.testing.assert_allclose(value, wanted, rtol=near)
    if adjoint != "backsolve":  # whose gradient is of the equation, not of these two steps
        flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        assert np.linalg.norm(flat(grads) - flat(exact)) < max(near, 1e-4) * 3 * np.linalg.norm(flat(exact))


def test_an_ode_adds_up_as_it_decodes(tiny):
    """Token by token the counts of evaluations are those of the whole window."""
    model, params, tokens = made(tiny, "model.depth=ode", "model.ode.speed=2", "model.layers=1")
    apply, cache = jax.jit(model.apply), model.init_cache(B, SLOTS)
    whole = apply({"params": params}, tokens)[2]["real"][0]["count"]
    total = np.zeros(B)
    for at in range(T):
        _, cache, aux = apply({"params": params}, tokens[:, at : at + 1], jnp.full((B, 1), at), cache)
        total += aux["real"][0]["count"]
    np.testing.assert_allclose(total, whole, rtol=1e-5)
    np.testing.assert_allclose(whole, [2.0 * T] * B, rtol=1e-5)


def test_on_many_devices(tiny):
    """In shard_map, as micro-batches run, each device has what its own rows say."""
    for depth in ("stack", "ode"):
        model, params, tokens = made(tiny, f"model.depth={depth}", "model.layers=1")
        auto = (jax.sharding.AxisType.Auto,)
        mesh = jax.make_mesh((2,), ("data",), axis_types=auto, devices=jax.devices()[:2])
        rows = jnp.concatenate([tokens, tokens[:1]])
        run = lambda p, t, model=model: model.apply({"params": p}, t)[2]["size"][0][None]
        spread = PartitionSpec("data")
        split = jax.shard_map(run, mesh=mesh, in_specs=(PartitionSpec(), spread), out_specs=spread)
        wanted = [run(params, rows[:2])[0], run(params, rows[2:])[0]]
        np.testing.assert_allclose(jax.jit(split)(params, rows), wanted, rtol=1e-5)


def test_what_cannot_be_added_up_is_refused(tiny, monkeypatch):
    monkeypatch.setitem(CHANNELS, "told", lambda *parts, **names: Told(*parts, **names, whole=True))
    aux = (lambda model, params, tokens: model.apply({"params": params}, tokens)[2])(*made(tiny))
    assert int(aux["whole"][0]) == B * T, "a stack hands on whole numbers"
    with pytest.raises(UserError, match=r"config\.model\.depth: an ODE adds up .* whole is int32"):
        made(tiny, "model.depth=ode")
