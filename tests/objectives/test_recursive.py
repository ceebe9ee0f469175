"""Deep supervision against arrays made outside this project, and by its laws."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.inference.stablemax import stablemax_losses
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.models.recursive import Recursive
from juliagpt_jax.objectives.objective import Memo
from juliagpt_jax.objectives.recursive import DeepSupervision, Offer


def test_stablemax(golden):
    io = np.load(golden / "trm" / "stablemax.npz")
    with jax.enable_x64():
        losses, back = jax.vjp(stablemax_losses, jnp.asarray(io["logits"]), jnp.asarray(io["labels"]))
        grads, _ = back(jnp.asarray(io["cotangent"]))
        scored = io["labels"] >= 0
        np.testing.assert_allclose(np.where(scored, losses, 0), np.where(scored, io["loss"], 0), atol=1e-10)
        np.testing.assert_allclose(grads, io["dlogits"], atol=1e-10)


NAMES = {
    "inner.H_init": "start_high",
    "inner.L_init": "start_low",
    "inner.embed_tokens.embedding_weight": "embedding",
    "inner.puzzle_emb.weights": "ids",
}


def read(arrays, prefix):
    """Their arrays by the paths of ours."""
    found = {}
    for key in arrays.files:
        if not key.startswith(prefix):
            continue
        name, array = key.removeprefix(prefix), arrays[key]
        parts = name.split(".")
        if name in NAMES:
            found[NAMES[name]] = array
        elif name == "inner.lm_head.weight":
            found["head"] = array.T
        elif name == "inner.q_head.weight":
            found["halt"] = array[0]
        elif name == "inner.q_head.bias":
            found["halt_bias"] = array[0]
        else:
            block, where, array = f"block_{parts[3]}", parts[-2], array.T
            split = {
                "qkv_proj": ("attention/mixer", ("query", "key", "value")),
                "o_proj": ("attention/mixer", ("out",)),
                "gate_up_proj": ("channel", ("gate", "up")),
                "down_proj": ("channel", ("down",)),
            }
            inner, names = split[where]
            for part, name in zip(np.split(array, len(names), axis=1), names, strict=True):
                found[f"{block}/{inner}/{name}/kernel"] = part
    return found


@pytest.fixture(scope="module")
def given(golden, tiny):
    io = np.load(golden / "trm" / "trm_att_rope.npz")
    theirs = json.loads(str(io["config_json"]))
    overrides = {
        "model.kind": "recursive",
        "train.objective": "recursive",
        "model.context": theirs["seq_len"],
        "model.width": theirs["hidden_size"],
        "model.heads": theirs["num_heads"],
        "model.layers": theirs["L_layers"],
        "model.ffn_mult": theirs["expansion"] * 2 / 3,
        "model.tie": False,
        "model.recursive.inner": theirs["L_cycles"],
        "model.recursive.outer": theirs["H_cycles"],
        "model.recursive.slots": theirs["puzzle_emb_len"],
        "model.recursive.ids": theirs["num_puzzle_identifiers"],
        "train.recursive.steps": theirs["halt_max_steps"],
        "train.recursive.explore": theirs["halt_exploration_prob"],
        "train.batch_size": theirs["batch_size"],
        "data.puzzle.kind": "sudoku",
    }
    settings = tiny(*(f"{key}={value}" for key, value in overrides.items()))
    model = Recursive(settings.model, theirs["vocab_size"])
    flat = {path: jnp.asarray(array) for path, array in read(io, "W/").items()}
    return io, settings, model, unflatten_dict({tuple(path.split("/")): leaf for path, leaf in flat.items()})


def test_its_parameters_are_theirs(given):
    _, _, model, params = given
    fresh = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"])
    assert {p: leaf.shape for p, leaf in paths(fresh).items()} == {p: leaf.shape for p, leaf in paths(params).items()}


def test_four_calls_that_share_a_carry(given):
    """Losses, logits, states, halts and gradients of each; rows that halt take what the batch offers."""
    io, settings, model, params = given
    objective = DeepSupervision(settings, model)
    apply = lambda trained, *inputs, key=None: model.apply({"params": trained}, *inputs)
    offers = lambda i: Batch(
        jnp.asarray(io[f"step{i}/batch_inputs"]),
        jnp.asarray(np.where(io[f"step{i}/batch_labels"] < 0, -1, io[f"step{i}/batch_labels"])),
        extra=Offer(jnp.asarray(io[f"step{i}/batch_puzzle_identifiers"]), jnp.zeros(3, jnp.int32)),
    )

    @jax.jit
    def call(params, rows, batch):
        def total(params):
            terms = objective.loss(apply, params, (), Memo(rows), batch, jax.random.key(0))
            return terms.total, terms

        grads, terms = jax.grad(total, has_aux=True)(params)
        logits, _, aux = apply(params, terms.rows.inputs, terms.rows.ids, rows.carry, rows.halted)
        return grads, terms, logits, aux["halt"]

    rows = objective.memo().rows
    for i in range(4):
        of = lambda name, i=i: io[f"step{i}/{name}"]
        np.testing.assert_array_equal(rows.halted, of("in_halted"))
        grads, terms, logits, halt = call(params, rows, offers(i))
        rows = terms.rows
        np.testing.assert_array_equal(rows.inputs, of("used_inputs"))
        np.testing.assert_array_equal(rows.ids, of("used_puzzle_identifiers"))
        np.testing.assert_allclose(logits, of("logits"), atol=2e-5, rtol=0)
        np.testing.assert_allclose(halt, of("q_halt_logits"), atol=2e-5, rtol=0)
        np.testing.assert_allclose(rows.carry.high, of("z_H"), atol=2e-5, rtol=0)
        np.testing.assert_allclose(rows.carry.low, of("z_L"), atol=2e-5, rtol=0)
        np.testing.assert_array_equal(rows.halted, of("halted"))
        np.testing.assert_array_equal(rows.steps, of("steps"))
        assert terms.sums["loss"] == pytest.approx(of("lm_loss_sum"), rel=1e-5)
        assert terms.sums["halt_loss"] == pytest.approx(of("q_halt_loss_sum"), rel=1e-5)
        assert terms.total == pytest.approx(of("loss_sum"), rel=1e-5)
        ours, theirs = paths(grads), read(io, f"step{i}/grad/")
        assert not np.any(ours["start_high"]) and not np.any(ours["start_low"])
        for path, grad in theirs.items():
            np.testing.assert_allclose(ours[path], grad, atol=1e-4 * np.abs(grad).max(), rtol=0, err_msg=path)
        table = np.zeros_like(ours["ids"])
        np.add.at(table, np.asarray(rows.ids), of("grad_puzzle_local"))
        np.testing.assert_allclose(ours["ids"], table, atol=1e-4 * np.abs(table).max(), rtol=0)
        assert set(ours) == {*theirs, "ids", "start_high", "start_low"}
    assert rows.halted.any()


def test_evaluation_makes_all_steps(given):
    io, _, model, params = given
    tokens, ids = jnp.asarray(io["step0/batch_inputs"]), jnp.asarray(io["step0/batch_puzzle_identifiers"])
    carry = None
    run = jax.jit(lambda carry: model.apply({"params": params}, tokens, ids, carry))
    for _ in range(int(io["eval/n_steps"])):
        logits, carry, _ = run(carry)
    np.testing.assert_allclose(logits, io["eval/logits"], atol=2e-5, rtol=0)
    np.testing.assert_array_equal(np.argmax(logits, -1), io["eval/preds"])


def test_the_best_latent_learns_and_all_halting_heads(tiny):
    own = ("model.kind=recursive", "train.objective=recursive", "data.puzzle.kind=sudoku", "model.tie=False")
    small = ("model.recursive.inner=1", "model.recursive.outer=1", "model.recursive.slots=1", "model.layers=1")
    settings = tiny(*own, *small, "model.recursive.latents=3", "train.batch_size=2")
    model = build_model(settings, 5)
    objective = DeepSupervision(settings, model)
    rng = np.random.default_rng(0)
    each, halts = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 3))
    targets = np.array([[0, 1, IGNORED, 3], [4, 4, 4, 4]])
    each[0, 1] = 9 * np.eye(5)[targets[0]]  # the one that is right
    given = (jnp.asarray(targets), jnp.array([3, 4]))
    losses, halt = objective._of_the_best(jnp.asarray(each), jnp.asarray(halts), *given)
    one = lambda k: np.sum(stablemax_losses(jnp.asarray(each[:, k]), given[0]), axis=1) / np.array([3, 4])
    np.testing.assert_allclose(losses, np.min([one(k) for k in range(3)], axis=0), rtol=1e-5)
    signs = np.where([[False, True, False], [False] * 3], -1, 1)
    np.testing.assert_allclose(halt, np.log1p(np.exp(signs * halts)).mean(1), rtol=1e-5)
    grad = jax.grad(lambda e: jnp.sum(objective._of_the_best(e, jnp.asarray(halts), *given)[0]))(jnp.asarray(each))
    moved = np.abs(np.asarray(grad)).max((2, 3)) > 0
    assert moved.sum() == 2 and moved[0, 1]
