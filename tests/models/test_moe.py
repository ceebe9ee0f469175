"""Experts: each form of them is the sum by hand, over any choice; what a router says; and the laws of a whole model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from juliagpt_jax.ground import config_file
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import moe, precision
from juliagpt_jax.models.build import build_model, check
from juliagpt_jax.models.channels import CHANNELS, EXPERTS
from juliagpt_jax.models.layers import LINEARS, linears
from juliagpt_jax.models.parameters import active, count

VOCAB, B, T, SLOTS = 17, 3, 20, 32
EXPERTS_OF = ("model.channel=moe", "model.width=16", "model.layers=1", "model.moe.experts=4")


def channel(tiny, *flags, kind="moe"):
    """The channel of a model, its parameters, and x (B, T, D)."""
    knobs = tiny("model.width=16", "model.moe.experts=4", "model.monarch.blocks=2", *flags).model
    made = CHANNELS[kind](knobs, 1.0, linears(knobs))
    x = jax.random.normal(jax.random.key(1), (B, T, 16))
    return knobs, made, jax.jit(made.init)(jax.random.key(2), x, jnp.ones((1, 1), bool))["params"], x


def by_hand(knobs, params, x):
    """Each token by itself, each of its experts by itself."""
    expert = EXPERTS[knobs.moe.expert](dataclasses.replace(knobs, ffn_mult=knobs.moe.expert_mult), 1.0, linears(knobs))
    run = jax.jit(lambda p, x: expert.apply({"params": p}, x, jnp.ones((1, 1), bool))[0])
    rows = []
    for token in x.reshape(-1, x.shape[-1]):
        logits = np.asarray(token, np.float64) @ np.asarray(params["router"], np.float64)
        best = np.argsort(-logits)[: knobs.moe.top]
        over = best if knobs.moe.gate == "chosen" else np.arange(len(logits))
        weights = np.exp(logits[best]) / np.exp(logits[over]).sum()
        own = [jax.tree.map(lambda leaf, e=e: leaf[e], params["experts"]) for e in best]
        found = [run(p, token[None, None])[0, 0] for p in own]
        rows.append(sum(w * f for w, f in zip(weights, found, strict=True)))
    return np.stack(rows).reshape(x.shape)


@pytest.mark.parametrize(
    "flags",
    [(), ("model.moe.top=1", "model.moe.gate=all"), ("model.moe.top=3", "model.bias=true", "model.moe.expert=gelu")],
    ids=["top 2", "top 1", "top 3"],
)
def test_a_channel_is_the_sum_by_hand(flags, tiny):
    knobs, made, params, x = channel(tiny, *flags)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # biases begin at 0
    y, _ = jax.jit(made.apply)({"params": params}, x, jnp.ones((1, 1), bool))
    np.testing.assert_allclose(y[:1, :7], by_hand(knobs, params, x[:1, :7]), atol=1e-5)


@pytest.mark.parametrize(
    "kind, linear",
    [
        pytest.param(kind, linear, marks=[] if (kind, linear) == ("swiglu", "dense") else pytest.mark.long)
        for i, kind in enumerate(EXPERTS)
        for linear in ([*LINEARS] if not i else ["dense"])
    ],
)
def test_any_channel_of_any_linears_is_an_expert(kind, linear, tiny):
    """Its sorted form is the sum over all, of ternary weights each expert by its own scale."""
    _, made, params, x = channel(tiny, f"model.moe.expert={kind}", f"model.linear={linear}")
    x = x[:1, :6]
    weights = jax.nn.softmax(jax.random.normal(jax.random.key(4), (6, 2)))
    chosen = jax.random.randint(jax.random.key(3), (6, 1), 0, 4) + jnp.array([[0, 1]])
    own = dataclasses.replace(made.model, ffn_mult=made.model.moe.expert_mult)
    expert = EXPERTS[kind](own, 1.0, made.linear)
    run = lambda p, x: expert.apply({"params": p}, x[None], jnp.ones((1, 1), bool))[0][0]
    chosen = chosen % 4

    @jax.jit
    def forms(params, x):
        places = moe.sort(chosen, 4)
        sorted_ = moe.through_chosen(run, params, x, places, weights)
        return sorted_, moe.through_all(run, params, x, chosen, weights)

    np.testing.assert_allclose(*forms(params["experts"], x[0]), atol=1e-5)


LINEAR = lambda params, x: jnp.tanh(x @ params)


@pytest.mark.parametrize("top", [1, 2, 5], ids="top {}".format)
@pytest.mark.parametrize("tokens", [1, 6, 150])
@pytest.mark.parametrize("how", ["spread", "one expert has all"])
def test_sorting_is_the_weighted_sum_over_all(how, tokens, top):
    """Values and gradients, also where one expert has all tokens and another none; top 5 of 5 is every expert."""
    E, D = 5, 4
    keys = jax.random.split(jax.random.key(tokens), 4)
    logits = jax.random.normal(keys[0], (tokens, E))
    if how != "spread":  # and the last has none
        logits += jnp.array([[0, 9, 0, 0, -9.0]])
    params, x = jax.random.normal(keys[1], (E, D, D)), jax.random.normal(keys[2], (tokens, D))
    chosen, _ = moe.route(logits, top, "chosen")

    def sorted_(params, x, logits):
        return moe.through_chosen(LINEAR, params, x, moe.sort(chosen, E), moe.route(logits, top, "all")[1])

    def over_all(params, x, logits):
        return moe.through_all(LINEAR, params, x, chosen, moe.route(logits, top, "all")[1])

    def run(form):
        loss = lambda *given: (jnp.sum(jnp.sin(form(*given))), form(*given))
        (_, y), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(params, x, logits)
        return y, grads

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), run(sorted_), run(over_all))


@pytest.mark.parametrize("count", [1, 3, 8])
def test_every_pair_has_one_place_in_a_block_of_its_expert(count):
    """However the tokens choose."""
    sort = jax.jit(moe.sort, static_argnums=1)
    for seed, tokens in enumerate((1, 17, 200)):
        top = min(2, count)
        rng = np.random.default_rng(seed)
        skew = rng.dirichlet(np.full(count, 0.3))
        chosen = np.stack(
            [rng.choice(count, top, replace=False, p=(skew + 1e-3) / (skew + 1e-3).sum()) for _ in range(tokens)]
        )
        owner, pairs, places = map(np.asarray, sort(jnp.asarray(chosen), count))
        size = moe.block_size(tokens, top, count)
        assert len(pairs) == len(owner) * size == moe.blocks(tokens, top, count) * size
        np.testing.assert_array_equal(pairs[places.reshape(-1)], np.arange(tokens * top))
        assert np.sum(pairs < tokens * top) == tokens * top, "nothing is there twice"
        np.testing.assert_array_equal(owner[places // size], chosen)


def test_what_a_router_says(tiny):
    """By hand, over tokens that exist; balance is 1 for equal probabilities and E for one expert alone."""
    logits = np.asarray(jax.random.normal(jax.random.key(0), (B * 4, 4)))
    chosen, _ = moe.route(jnp.asarray(logits), 2, "chosen")
    exists = np.arange(4)[None] < np.array([4, 2, 3])[:, None]
    say = jax.jit(moe._said, static_argnums=4)
    said = say(logits, chosen, jnp.ones(chosen.shape, bool), jnp.asarray(exists.reshape(-1)), (B, 4))
    for row in range(B):
        own = slice(row * 4, row * 4 + exists[row].sum())
        share = np.bincount(np.asarray(chosen[own]).reshape(-1), minlength=4) / chosen[own].size
        mean = np.mean(np.asarray(jax.nn.softmax(logits[own])), axis=0)
        np.testing.assert_allclose(said["share"][row], share, atol=1e-6)
        np.testing.assert_allclose(said["balance"][row], 4 * share @ mean, rtol=1e-5)
        wanted = np.mean(np.log(np.exp(logits[own]).sum(axis=1)) ** 2)
        np.testing.assert_allclose(said["router_z"][row], wanted, rtol=1e-5)
    all_exist = jnp.ones(4, bool)
    equal = say(jnp.zeros((4, 4)), jnp.arange(4)[:, None], jnp.ones((4, 1), bool), all_exist, (1, 4))
    assert equal["balance"][0] == pytest.approx(1) and equal["dropped"][0] == 0
    one = jnp.where(jnp.arange(4)[None] == 2, 50.0, jnp.zeros((4, 4)))
    alone = say(one, jnp.full((4, 1), 2), jnp.ones((4, 1), bool), all_exist, (1, 4))
    assert alone["balance"][0] == pytest.approx(4)


class Made:
    """A model, its parameters and tokens (B, T)."""

    def __init__(self, tiny, *flags):
        self.config = tiny(*EXPERTS_OF, "model.tie=false", "model.monarch.blocks=2", *flags)
        self.model = build_model(self.config, VOCAB)
        self.tokens = jax.random.randint(jax.random.key(7), (B, T), 0, VOCAB)
        self.params = jax.jit(self.model.init)(jax.random.key(3), self.tokens)["params"]
        self.apply = jax.jit(self.model.apply)

    def forward(self, tokens=None, params=None):
        return self.apply(
            {"params": self.params if params is None else params}, self.tokens if tokens is None else tokens
        )


@pytest.fixture(scope="module")
def made(tiny):
    return Made(tiny, "model.moe.shared=1")


def test_the_sorted_form_is_in_use(made):
    """Of the tokens here, and of a single one; of a few all experts are computed."""
    sorted_ = lambda tokens: moe._sorting_pays(tokens, 2, 4)
    assert sorted_(B * T) and sorted_(1) and not sorted_(4)


@pytest.mark.parametrize("at", [0, 13])
def test_no_other_token_moves_one(made, at):
    """Not by a bit: neither a later token nor another row, whichever experts they move to."""
    logits = np.asarray(made.forward()[0])
    for token in range(VOCAB):
        changed = np.asarray(made.forward(made.tokens.at[1, at].set(token))[0])
        np.testing.assert_array_equal(changed[[0, 2]], logits[[0, 2]])
        np.testing.assert_array_equal(changed[1, :at], logits[1, :at])


def test_permuted_experts_are_the_same_model(made):
    order = np.array([2, 0, 3, 1])
    own = made.params["block_0"]["channel"]
    moved = own | {"router": own["router"][:, order], "experts": jax.tree.map(lambda a: a[order], own["experts"])}
    params = made.params | {"block_0": made.params["block_0"] | {"channel": moved}}
    logits, _, said = made.forward()
    again, _, told = made.forward(params=params)
    np.testing.assert_allclose(again, logits, atol=1e-6)
    np.testing.assert_allclose(told["share"][0], said["share"][0][:, order], atol=1e-6)
    assert not np.allclose(said["share"][0], said["share"][0][:, order], atol=1e-3)


def test_one_expert_is_the_channel(tiny):
    made = Made(tiny, "model.moe.experts=1", "model.moe.top=1")
    plain = build_model(tiny("model.width=16", "model.layers=1", "model.tie=false", "model.ffn_mult=2"), VOCAB)
    own = dict(made.params["block_0"]["channel"])
    one = jax.tree.map(lambda leaf: leaf[0], own["experts"])
    params = made.params | {"block_0": made.params["block_0"] | {"channel": one}}
    wanted = jax.jit(plain.apply)({"params": params}, made.tokens)[0]
    np.testing.assert_allclose(made.forward()[0], wanted, atol=1e-6)


def test_a_model_of_ternary_experts_decodes_as_it_reads(tiny):
    """From a cache, token by token, kept as trits from then on: the same numbers, but for activations that rounding
    carries over to the next level."""
    made = Made(tiny, "model.linear=ternary")
    model, params = precision.prepare(made.model, made.params, "ternary")
    assert params["block_0"]["channel"]["experts"]["up"]["kernel_scale"].shape == (4,)
    apply, cache, parts = jax.jit(model.apply), model.init_cache(B, SLOTS), []
    for at in range(T):
        logits, cache, _ = apply({"params": params}, made.tokens[:, at : at + 1], jnp.full((B, 1), at), cache)
        parts.append(logits)
    apart = np.abs(np.concatenate(parts, axis=1) - made.forward()[0])
    assert np.median(apart) < 1e-5 and np.mean(apart > 1e-4) < 0.1


def test_int8_experts_are_near(tiny):
    made = Made(tiny, "model.layers=2")
    model, params = precision.prepare(made.model, made.params, "int8")
    assert params["block_1"]["channel"]["experts"]["up"]["kernel_int8"].dtype == jnp.int8
    assert params["block_1"]["channel"]["experts"]["up"]["kernel_scale"].shape == (4, 32)
    logits, wanted = jax.jit(model.apply)({"params": params}, made.tokens)[0], made.forward()[0]
    assert np.std(logits - wanted) < 0.03 * np.std(wanted)


@pytest.mark.parametrize(
    "flags",
    [
        ("model.layers=4", "model.channel=moe swiglu", "model.scan_layers=true"),
        ("model.layers=2", "train.remat=true"),
        ("model.depth=ode", "model.ode.time=embedded", "model.ode.steps=2"),
        ("model.depth=ode", "model.ode.time=lowrank", "model.linear=subln"),
    ],
    ids=["in a loop", "recomputed", "ode", "ode, low rank"],
)
def test_depths(flags, tiny):
    """A loop over layers and recomputation change nothing; an ODE adds up what its evaluations say."""
    made = Made(tiny, *flags)
    loss = lambda model: lambda p: jnp.sum(jnp.sin(model.apply({"params": p}, made.tokens)[0]))
    values = jax.jit(jax.value_and_grad(loss(made.model)))(made.params)
    assert np.isfinite(values[0])
    plain = dataclasses.replace(made.config.model, scan_layers=False)
    other = made.model.clone(config=plain, remat=False, parent=None)
    if other != made.model:
        wanted = jax.jit(jax.value_and_grad(loss(other)))(made.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), values, wanted)
    share = made.forward()[2]["share"]
    speed = made.config.model.ode.speed if made.config.model.has_ode else 1.0
    for layer in share:
        np.testing.assert_allclose(jnp.sum(layer, axis=-1), speed, rtol=1e-4)


def test_several_seeds_and_several_devices(made, tiny):
    """Under vmap, and in shard_map, each has what it has alone."""
    two = jax.tree.map(lambda a: jnp.stack([a, a * 0.9]), made.params)
    both = jax.jit(jax.vmap(lambda p: made.model.apply({"params": p}, made.tokens)[0]))(two)
    np.testing.assert_allclose(both[1], made.forward(params=jax.tree.map(lambda a: a * 0.9, made.params))[0], atol=1e-5)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    rows, spread = jnp.concatenate([made.tokens, made.tokens[:1]]), PartitionSpec("data")
    grad = jax.grad(lambda p, t: jnp.sum(jnp.sin(made.model.apply({"params": p}, t)[0])))
    run = lambda p, t: jax.lax.psum(grad(jax.lax.pcast(p, ("data",), to="varying"), t), "data")
    split = jax.shard_map(run, mesh=mesh, in_specs=(PartitionSpec(), spread), out_specs=PartitionSpec())
    got, wanted = jax.jit(split)(made.params, rows), jax.jit(grad)(made.params, rows)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, wanted)


# A limit to what an expert takes.


def test_a_capacity_drops_by_lot_and_only_in_training(tiny):
    """With a key: the share that is dropped is as counted, those that stay have what they had; without, nothing is."""
    knobs, made, params, x = channel(tiny, "model.moe.capacity=0.5")
    free = CHANNELS["moe"](
        dataclasses.replace(knobs, moe=dataclasses.replace(knobs.moe, capacity=0.0)), 1.0, linears(knobs)
    )
    real = jnp.ones((1, 1), bool)
    whole, said = jax.jit(free.apply)({"params": params}, x, real)
    np.testing.assert_array_equal(jax.jit(made.apply)({"params": params}, x, real)[0], whole)
    assert np.all(said["dropped"] == 0)
    drop = jax.jit(lambda key: made.apply({"params": params}, x, real, rngs={"capacity": key}))
    y, said = drop(jax.random.key(0))
    limit = np.ceil(0.5 * B * T * 2 / 4)
    counts = np.asarray(jnp.sum(said["share"], axis=0)) * T * 2
    dropped = np.maximum(counts - limit, 0).sum() / (B * T * 2)
    np.testing.assert_allclose(np.mean(said["dropped"]), dropped, atol=1e-6)
    assert dropped > 0.2
    same = np.all(np.abs(y - whole) < 1e-6, axis=-1)
    assert 0 < same.mean() < 1 - dropped / 2, "some tokens lost a choice, and some none"
    assert np.any(drop(jax.random.key(1))[0] != y), "another key, another lot"


def test_room_for_all_drops_nothing(tiny):
    """Values and gradients of blocks with a limit that no expert meets are those without one."""
    _, made, params, x = channel(tiny, "model.moe.capacity=4.0")
    real, key = jnp.ones((1, 1), bool), {"capacity": jax.random.key(0)}
    loss = lambda rngs: lambda p, x: jnp.sum(jnp.sin(made.apply({"params": p}, x, real, rngs=rngs)[0]))
    run = lambda rngs: jax.jit(jax.grad(loss(rngs), argnums=(0, 1)))(params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), run(key), run({}))


def test_pads_take_no_places(tiny):
    _, made, params, x = channel(tiny, "model.moe.capacity=1.0")
    x = jnp.tile(x[:1, :1], (1, T, 1))  # all go the same way; half of the choices have room
    real = jnp.arange(T)[None] >= T // 2
    apply = jax.jit(made.apply)
    y, said = apply({"params": params}, x, real, rngs={"capacity": jax.random.key(0)})
    alone, _ = apply({"params": params}, x[:, T // 2 :], jnp.ones((1, 1), bool))
    np.testing.assert_allclose(y[:, T // 2 :], alone, atol=1e-6)
    assert said["dropped"][0] == 0


# Numbers and refusals.


def test_active_parameters(made):
    expert, D, H = 3 * 16 * 32, 16, 32
    others = 4 * D * D + 3 * D * H + D * 4 + 3 * D + 2 * VOCAB * D  # attention, shared, router, norms, both tables
    assert count(made.params) == 4 * expert + others
    assert active(made.params, made.config.model) == 2 * expert + others


@pytest.mark.parametrize(
    "flags, says",
    [
        (["model.moe.top=5"], "config.model.moe.top: a token cannot go through 5 of model.moe.experts=4"),
        (["model.moe.top=1"], "config.model.moe.gate: the softmax over one chosen expert is 1"),
        (["model.moe.gate=every"], "config.model.moe.gate: no gate is called 'every'"),
        (["model.moe.expert=moe"], "config.model.moe.expert: no expert is called 'moe'"),
        (["model.moe.expert_mult=0.01"], "config.model.moe.expert_mult: 0.01 x width 16 is no hidden width"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes(flags, says, tiny):
    with pytest.raises(UserError) as caught:
        check(tiny(*EXPERTS_OF, *flags))
    assert str(caught.value).startswith(says) and "\n" not in str(caught.value)


def test_a_config_without_experts_may_say_anything_of_gates():
    config_file.load("configs/base.py", ["model.moe.top=1"])
