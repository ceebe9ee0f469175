"""Adapters: a tree taken apart and put together, trained in part, and folded into one model that computes the same."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.models import adapters
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.layers import LINEARS, Linear
from juliagpt_jax.models.parameters import paths

SCALE = 0.5


class Thin(nn.Module):
    """The two matrices of a LoRA of rank 2."""

    features: int

    @nn.compact
    def __call__(self, x):
        a = self.param("a", nn.initializers.normal(x.shape[-1] ** -0.5), (x.shape[-1], 2))
        return x @ a @ self.param("b", nn.initializers.zeros, (2, self.features))


class LoRA(nn.Module):
    """A Linear with an adapter beside its kernel."""

    features: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x):
        inner = Linear(self.features, self.gain)
        nn.share_scope(self, inner)
        return inner(x) + SCALE * Thin(self.features, name="lora")(x)


@pytest.fixture
def adapted(tiny, monkeypatch):
    """A model of Linears with adapters, the model without, its parameters and tokens."""
    monkeypatch.setitem(LINEARS, "lora", lambda model: LoRA)
    model, plain = (build_model(tiny("model.layers=1", f"model.linear={word}"), 11) for word in ("lora", "dense"))
    tokens = jax.random.randint(jax.random.key(0), (2, 6), 0, 11)
    return model, plain, jax.jit(model.init)(jax.random.key(1), tokens)["params"], tokens


@pytest.mark.long
def test_only_adapters_train_and_fold_away(adapted):
    """Steps of the adapters alone lower the loss; the frozen tree is the same to the bit; folded into the kernels they
    compute the same logits without themselves."""
    model, plain, params, tokens = adapted
    trained, frozen = adapters.split(params, adapters.adapters)
    assert {path.split("/")[-2] for path in paths(trained)} == {"lora"} and len(paths(trained)) == 2 * 7
    assert not paths(trained).keys() & paths(frozen).keys()
    assert paths(adapters.merge(trained, frozen)).keys() == paths(params).keys()
    before = adapters.digest(frozen)

    def loss(trained):
        logits, *_ = model.apply({"params": adapters.merge(trained, frozen)}, tokens[:, :-1])
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], axis=-1))

    step = jax.jit(jax.value_and_grad(loss))
    first, _ = step(trained)
    for _ in range(20):
        last, gradient = step(trained)
        trained = jax.tree.map(lambda p, g: p - 0.3 * g, trained, gradient)
    assert last < first - 0.3
    assert adapters.digest(frozen) == before

    folded = adapters.fold(adapters.merge(trained, frozen), SCALE)
    assert paths(folded).keys() == paths(plain.init(jax.random.key(1), tokens)["params"]).keys()
    wanted = model.apply({"params": adapters.merge(trained, frozen)}, tokens)[0]
    got = plain.apply({"params": folded}, tokens)[0]
    np.testing.assert_allclose(got, wanted, atol=1e-6 * np.abs(wanted).max())
    without = plain.apply({"params": adapters.fold(params, SCALE)}, tokens)[0]
    assert np.abs(without - wanted).max() > 0.01, "the adapters act"


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
