"""Adapters: a model begins as the one below, trains in part, and is folded into one that computes the same."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.adapter import Adapter
from juliagpt_jax.models import adapters
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.layers import biased, linears
from juliagpt_jax.models.parameters import paths

RANK, ALPHA = 2, 3.0
KNOBS = ["model.layers=2", f"adapter.rank={RANK}", f"adapter.alpha={ALPHA}", "train.init=base"]


@pytest.fixture(scope="module")
def adapted(tiny):
    """A model whose second layer has adapters in its mixer and beside `up`, the model without, its parameters and
    tokens."""
    settings = tiny(*KNOBS, "adapter.targets=mixer up", "adapter.layers=1")
    model, plain = build_model(settings, 11), build_model(tiny("model.layers=2"), 11)
    tokens = jax.random.randint(jax.random.key(0), (2, 6), 0, 11)
    return model, plain, jax.jit(model.init)(jax.random.key(1), tokens)["params"], tokens


def test_only_adapters_train_and_fold_away(adapted):
    """They begin as the bits of the model below. Steps of theirs alone lower the loss, the frozen tree is the same to
    the bit; folded into the kernels they compute the same logits without themselves, and are taken away again."""
    model, plain, params, tokens = adapted
    trained, frozen = adapters.split(params, adapters.adapters)
    linears = {"mixer/query", "mixer/key", "mixer/value", "mixer/out", "channel/up"}
    assert {*paths(trained)} == {f"block_1/{linear}/lora/{matrix}" for linear in linears for matrix in "ab"}
    assert not paths(trained).keys() & paths(frozen).keys()
    assert paths(adapters.merge(trained, frozen)).keys() == paths(params).keys()
    assert paths(plain.init(jax.random.key(1), tokens)["params"]).keys() == paths(frozen).keys()
    apply, below = jax.jit(model.apply), jax.jit(plain.apply)
    first = below({"params": frozen}, tokens)[0]
    np.testing.assert_array_equal(apply({"params": params}, tokens)[0], first)
    np.testing.assert_array_equal(apply({"params": frozen}, tokens)[0], first)
    before = adapters.digest(frozen)

    def loss(trained):
        logits, *_ = model.apply({"params": adapters.merge(trained, frozen)}, tokens[:, :-1])
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], axis=-1))

    step = jax.jit(jax.value_and_grad(loss))
    begun, _ = step(trained)
    for _ in range(20):
        last, gradient = step(trained)
        trained = jax.tree.map(lambda p, g: p - 0.3 * g, trained, gradient)
    assert last < begun - 0.1
    assert adapters.digest(frozen) == before

    folded = adapters.fold(adapters.merge(trained, frozen), ALPHA / RANK)
    wanted = apply({"params": adapters.merge(trained, frozen)}, tokens)[0]
    np.testing.assert_allclose(below({"params": folded}, tokens)[0], wanted, atol=1e-6 * np.abs(wanted).max())
    assert np.abs(first - wanted).max() > 0.01, "the adapters act"
    again = adapters.fold(adapters.merge(trained, folded), ALPHA / RANK, sign=-1.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), again, frozen)


@pytest.fixture(scope="module")
def beside():
    """beside(targets, knobs, linear): a module `up` of a channel, of width 4, in the first of three layers."""
    plain = lambda features, gain=1.0, **name: nn.Dense(features, use_bias=False, **name)

    def beside(targets="all", linear=plain, layers="all", **knobs):
        own = Adapter(
            **({"rank": 2, "alpha": 2.0, "dropout": 0.0, "base": "float"} | knobs), targets=targets, layers=layers
        )
        return adapters.beside(linear, own, "channel", 0, 3)(4, name="up", parent=None)

    return beside


@pytest.mark.parametrize(
    ("targets", "layers", "has"),
    [
        ("all", "all", True),
        ("channel", "all", True),
        ("mixer gate", "all", False),
        ("up", "0-1", True),
        ("up", "1 2", False),
    ],
)
def test_where_adapters_are(beside, targets, layers, has):
    made = beside(targets, layers=layers).init(jax.random.key(0), jnp.ones((1, 3)))["params"]
    assert ("lora" in made) == has


@pytest.mark.parametrize("text", ["3", "2-3", "1-0", "first", "-1"])
def test_layers_that_there_are_not(text):
    with pytest.raises(UserError, match=r"adapter\.layers: .* neither all nor layers of 0 \.\. 2"):
        adapters.numbers(text, 3)


def test_a_target_that_is_no_linear(tiny):
    with pytest.raises(UserError, match=r"no Linear of this model is called 'querry'; did you mean query"):
        build_model(tiny(*KNOBS, "adapter.targets=querry"), 11).check()


def test_dropout_is_of_what_an_adapter_is_given(beside):
    """With a random key alone, by the share that is kept, and never of what the kernel is given."""
    module, x = beside(dropout=0.5), jnp.ones((2, 64))
    params = module.init(jax.random.key(0), x)["params"]
    params["lora"]["b"] = jnp.ones((2, 4))
    key = {"dropout": jax.random.key(3)}
    run = lambda params, **more: module.apply({"params": params}, x, **more)
    assert not np.array_equal(run(params), run(params, rngs=key))
    base = {"kernel": params["kernel"]}
    np.testing.assert_array_equal(run(base), run(base, rngs=key))
    dropped = nn.Dropout(0.5, deterministic=False).apply({}, x, rngs=key)
    kept = {*np.unique(dropped).tolist()}
    assert kept == {0.0, 2.0}


def test_beside_a_bias_and_one_for_each_row(beside, tiny):
    """Of a Linear with a bias, in whichever order they are made; an adapter with an axis in front is of the rows."""
    x = jax.random.normal(jax.random.key(0), (3, 5, 8))
    model = tiny().model
    inside, outside = beside(linear=linears(model)), beside(linear=biased(linears(model)))
    params = outside.init(jax.random.key(1), x)["params"]
    assert {*params} == {"kernel", "bias", "lora"}
    rows = {name: jax.random.normal(jax.random.key(2), (3, *leaf.shape)) for name, leaf in params["lora"].items()}
    own = params | {"bias": jnp.arange(4.0)}
    got = outside.apply({"params": own | {"lora": rows}}, x)
    for i in range(3):
        one = own | {"lora": jax.tree.map(lambda leaf, i=i: leaf[i], rows)}
        np.testing.assert_allclose(got[i], outside.apply({"params": one}, x)[i], atol=1e-5)
    plain = {"kernel": own["kernel"], "lora": one["lora"]}
    np.testing.assert_allclose(got[2], inside.apply({"params": plain}, x)[2] + jnp.arange(4.0)[None], atol=1e-5)


def test_adapters_side_by_side():
    """Of other ranks and other Linears: the first is none, and what is missing is zeros."""
    one = {"block_0/mixer/query/lora/a": np.ones((3, 1)), "block_0/mixer/query/lora/b": np.full((1, 2), 5.0)}
    two = {"block_0/mixer/query/lora/a": np.ones((3, 2)), "block_0/mixer/query/lora/b": np.full((2, 2), 7.0)}
    two |= {"block_0/channel/up/lora/a": np.ones((3, 2)), "block_0/channel/up/lora/b": np.ones((2, 4))}
    tree = adapters.stack([one, two])
    products = {path: np.asarray(leaf) for path, leaf in paths(tree).items()}
    query = products["block_0/mixer/query/lora/a"] @ products["block_0/mixer/query/lora/b"]
    np.testing.assert_array_equal(query[:, 0, 0], [0, 5, 14])
    assert products["block_0/channel/up/lora/b"].sum(axis=(1, 2)).tolist() == [0, 0, 8]
    with pytest.raises(UserError, match="adapters of experts"):
        adapters.stack([{"block_0/channel/experts/up/lora/a": np.ones((2, 3, 1))}])


def test_everything_trains_where_there_is_no_adapter():
    params = {"embedding": np.ones((3, 2)), "block_0": {"mixer": {"out": {"kernel_int8": np.ones((2, 2), np.int8)}}}}
    trained, frozen = adapters.split(params)
    assert [*paths(trained)] == ["embedding"] and [*paths(frozen)] == ["block_0/mixer/out/kernel_int8"]


def test_what_does_not_go_together():
    one = {"embedding": np.ones(2)}
    with pytest.raises(ValueError, match="trained and frozen at once: embedding"):
        adapters.merge(one, one)
    with pytest.raises(ValueError, match="block_0/mixer/out: an adapter, and no kernel"):
        adapters.fold({"block_0": {"mixer": {"out": {"lora": {"a": np.ones((2, 1)), "b": np.ones((1, 2))}}}}}, 1.0)


def test_a_digest_is_of_names_shapes_types_and_numbers():
    trees = [{"a": np.zeros((2, 3))}, {"b": np.zeros((2, 3))}, {"a": np.zeros((3, 2))}]
    trees += [{"a": np.zeros((2, 3), np.float32)}, {"a": np.eye(2, 3)}, {"a": {"b": np.zeros((2, 3))}}]
    assert len({adapters.digest(tree) for tree in trees}) == len(trees)
    assert adapters.digest({"x": 1, "a": 2}) == adapters.digest({"a": 2, "x": 1})
