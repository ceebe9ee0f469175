"""The one train step: pure, jitted once, its state donated.

Loss scaling, accumulation, clipping, the optimizer, the average of the weights and the refusal of non-finite updates
are all inside it, for any objective. All randomness is fold_in(key(seed), step).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.ground import config
from juliagpt_jax.models import adapters, capture, roles
from juliagpt_jax.models.build import phases
from juliagpt_jax.models.interface import Model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.objectives.build import build_objective
from juliagpt_jax.objectives.objective import Memo, Objective
from juliagpt_jax.training import kfac, schedules
from juliagpt_jax.training.mesh import WHOLE, batch_sharding, shardings
from juliagpt_jax.training.optimizers import OPTIMIZERS, descend
from juliagpt_jax.training.parts import Fixed, Merge, Rows, Same, Sums, in_parts
from juliagpt_jax.training.state import Frozen, TrainState, initial_state, places

DRAWS = 2**32 - 1  # folded into a step's key for what K-FAC draws; micro-batches and devices fold in small numbers
GROWTH_INTERVAL = 500  # good f16 steps before the loss scale doubles

Metrics = dict[str, jax.Array]


def make_train_step(
    config: config.Config,
    model: Model,
    mesh: jax.sharding.Mesh,
    objective: Objective | None = None,
    state: TrainState | None = None,
    frozen: Frozen | None = None,
    merge: Merge = adapters.merge,
    steps: int = 1,
) -> Any:
    """Return the jitted `step(state, batch, frozen) -> (state, metrics)`.

    Metrics are scalars: loss and what else the objective sums (a target), what it says of its memo, grad_norm (before
    clipping), lr, scale, skipped, bad_in_row, and `bad_leaf`: the index, in the order of the parameter table, of the
    first parameter with a non-finite gradient; -1 when only the loss, the norm or the memo is bad or nothing is.

    Args:
        objective: None for the config's, without a corpus.
        state: the first one, or its shapes; None for one whose parameters are all of the model's.
        frozen: what the step will be given, or its shapes; None for what the objective has.
        steps: above 1, the function does so many steps: it takes their batches along a first axis, and gives metrics
            along one.
        merge: makes the model's parameters of the trained ones and of `frozen.base`.
    """
    objective = objective or build_objective(config, model)
    abstract = state or jax.eval_shape(lambda: initial_state(config, model, memo=objective.memo()))
    frozen = frozen or Frozen(own=objective.frozen())
    placed, whole = places(abstract, mesh), NamedSharding(mesh, WHOLE)
    one = functools.partial(train_step, Fixed(config, model, mesh, objective, merge), config.seed)

    def several(state: TrainState, batches: Batch, frozen: Frozen) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda state, batch: one(state, batch, frozen), state, batches)

    return jax.jit(
        one if steps == 1 else several,
        donate_argnums=0,
        in_shardings=(placed, batch_sharding(mesh, steps > 1), shardings(frozen, mesh)),
        out_shardings=(placed, whole),
    )


def make_joint_step(
    config: config.Config,
    model: Model,
    mesh: jax.sharding.Mesh,
    seeds: Sequence[int],
    objective: Objective | None = None,
    merge: Merge = adapters.merge,
) -> Any:
    """Return the jitted step of several runs that differ in their seed alone, as one vmapped train step:
    `joint(states, batches, frozen) -> ((state, metrics), ...)`, of tuples with what `train_step` has for each seed;
    what is frozen is the same for all.

    Each run is what it would be alone but for the order of summation in batched products: about 1e-6 a step in float32.
    """
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    fixed = Fixed(config, model, mesh, objective or build_objective(config, model), merge)
    step = jax.vmap(functools.partial(train_step, fixed), in_axes=(0, 0, 0, None))

    def joint(states: Sequence[TrainState], batches: Sequence[Batch], frozen: Frozen) -> tuple:
        out = step(jnp.array(seeds, jnp.uint32), stack(states), stack(batches), frozen)
        return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], out) for i in range(len(seeds)))

    return jax.jit(joint, donate_argnums=0)


def train_step(fixed: Fixed, seed: Any, state: TrainState, batch: Batch, frozen: Frozen) -> tuple[TrainState, Metrics]:
    """Return the next state and the metrics of a step: what `make_train_step` jits."""
    train, objective = fixed.config.train, fixed.objective
    key = jax.random.fold_in(jax.random.key(seed), state.step)

    memo = state.memo
    if objective.before is not None:
        batch, memo = at_this_step(fixed, state.step, prepared, state.params, frozen, memo, batch)

    # The scale is applied to the mean loss: f16 has no room for it on top of a sum over the batch.
    count = objective.count(batch)
    same = Same(state.params, frozen, memo.whole, key, state.scale / count)
    parts = Rows(batch, memo.rows)
    grads, sums, rows = over_batch(gradients, fixed, state.step, same, parts)
    memo = Memo(rows, memo.whole)
    means = {name: total / count for name, total in sums.items()}
    grads = jax.tree.map(lambda g: g / state.scale, grads)
    grad_norm = optax.tree.norm(grads)

    # The norm, too: a finite gradient can overflow its own square, which would stay in a moment for ever; and the memo,
    # which stays as well. What the update gives is not looked at: that would hold the new and the old state in memory
    # side by side.
    leaf_ok = jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads)])
    # Counted, and not `all`, of which XLA makes a chain of as many steps as there are leaves, and puts it into the
    # update of each: of 420 adapters that makes a program of gigabytes.
    grads_ok = jnp.sum(jnp.where(leaf_ok, 0, 1)) == 0
    finite = grads_ok & jnp.isfinite(means["loss"]) & jnp.isfinite(grad_norm)
    for leaf in jax.tree.leaves(memo):
        finite &= jnp.all(jnp.isfinite(leaf))
    bad_leaf = jnp.where(grads_ok, -1, jnp.argmin(leaf_ok))

    lr = jnp.asarray(schedules.learning_rate(fixed.config)(state.step))
    optimizer = optax.with_extra_args_support(OPTIMIZERS[train.optimizer](train, state.params))
    # What is not finite is dropped below; here it would only cost the time that a decomposition tries to converge.
    grads = jax.tree.map(lambda g: jnp.where(finite, g, 0), grads)
    measure = functools.partial(factors, fixed, state.step, same, parts, count)
    directions, opt_state = optimizer.update(grads, state.opt_state, state.params, measure=measure, lr=lr)
    trust = optax.tree.get(opt_state, "trust")  # of K-FAC, which inverts what no gradient shows
    finite &= True if trust is None else jnp.isfinite(trust)
    decay = schedules.weight_decay(train, state.step, lr)
    params = descend(train, state.params, directions, lr, decay)
    averaged = state.averaged
    if averaged != ():
        weight = schedules.averaging(train)(state.step)
        averaged = jax.tree.map(lambda a, p: (1 - weight) * a + weight * p, averaged, params)
    params, opt_state, averaged, memo = jax.tree.map(
        functools.partial(jnp.where, finite),
        (params, opt_state, averaged, memo),
        (state.params, state.opt_state, state.averaged, state.memo),
    )

    scale, good = state.scale, state.good
    if train.precision == "f16":
        grown = good + 1 >= GROWTH_INTERVAL
        scale = jnp.where(finite, jnp.where(grown, scale * 2, scale), jnp.maximum(scale / 2, 1.0))
        good = jnp.where(finite & ~grown, good + 1, 0)
    state = TrainState(
        params=params,
        opt_state=opt_state,
        averaged=averaged,
        step=state.step + 1,
        scale=scale,
        good=good,
        bad_in_row=jnp.where(finite, 0, state.bad_in_row + 1),
        skipped=state.skipped + (~finite).astype(jnp.int32),
        memo=memo,
    )
    metrics = means | objective.metrics(memo)
    metrics |= {"grad_norm": grad_norm, "lr": lr, "scale": scale, "bad_leaf": bad_leaf}
    if trust is not None:
        metrics["trust"] = trust
    return state, metrics | {"skipped": state.skipped, "bad_in_row": state.bad_in_row}


# What is summed over the rows of a batch: functions (fixed, model, same, rows) -> Sums.


def gradients(fixed: Fixed, model: Model, same: Same, rows: Rows) -> Sums:
    """Return the gradient of what is minimised, times the scale, with what is logged; and the new rows of the memo."""
    grads, (sums, kept) = jax.grad(_scaled_total, has_aux=True)(same.trained, fixed, model, same, rows)
    return Sums(grads, sums, kept)


def _scaled_total(trained: Any, fixed: Fixed, model: Model, same: Same, rows: Rows) -> tuple[jax.Array, Any]:
    apply = functools.partial(applied, fixed, model, same.frozen.base)
    memo = Memo(rows.memo, same.whole)
    terms = fixed.objective.loss(apply, trained, same.frozen.own, memo, rows.batch, same.key)
    return terms.total * same.scale, (terms.sums, terms.rows)


def curvature(fixed: Fixed, model: Model, same: Same, rows: Rows) -> Sums:
    """Return what K-FAC's factors are made of."""
    own = fixed.config.train.kfac
    if model_cuts := getattr(model, "cuts", None):  # what a factor is measured of is the whole matrix
        same = same._replace(trained=model_cuts.whole(same.trained, ""))
        model = model.clone(cuts=None, parent=None)
    if own.fisher == "sampled":
        loss = functools.partial(_scaled_sampled, fixed=fixed, model=model, same=same, rows=rows)
    else:
        loss = lambda trained: _scaled_total(trained, fixed, model, same, rows)[0]
    linears = [path for path in paths(same.trained) if roles.of(path).tapped]
    found = capture.moments(loss, same.trained, linears, rows.batch.rows, own.sharing == "reduce")
    return Sums((), found, ())


def _scaled_sampled(trained: Any, fixed: Fixed, model: Model, same: Same, rows: Rows) -> jax.Array:
    apply = functools.partial(applied, fixed, model, same.frozen.base)
    memo = Memo(rows.memo, same.whole)
    return same.scale * fixed.objective.sampled(apply, trained, same.frozen.own, memo, rows.batch, same.key, rows.draws)


def factors(fixed: Fixed, step: jax.Array, same: Same, rows: Rows, count: jax.Array) -> dict[str, kfac.Factors]:
    """Return K-FAC's factors of a batch. Each row has a key of its own, so that the labels drawn do not depend on how
    the batch is cut."""
    each = lambda row: jax.random.key_data(jax.random.fold_in(jax.random.fold_in(same.key, DRAWS), row))
    rows = rows._replace(draws=jax.vmap(each)(jnp.arange(rows.batch.rows)))
    sums = over_batch(curvature, fixed, step, same, rows)
    return kfac.measured(sums.whole, count, same.scale)


# How they are summed.


def over_batch(sums: Callable[..., Sums], fixed: Fixed, step: jax.Array, same: Same, rows: Rows) -> Sums:
    """Return sums(fixed, model, same, rows) over the whole batch, of the model as it is at a step."""
    return at_this_step(fixed, step, functools.partial(in_parts, sums, sums is gradients), same, rows)


def at_this_step(fixed: Fixed, step: jax.Array, function: Callable[..., Any], *given: Any) -> Any:
    """Return function(fixed, model, *given) of the model as it is at a step: all that a run has are in the one
    program."""
    begins, models = zip(*phases(fixed.config, fixed.model), strict=True)
    functions = [functools.partial(function, fixed, model) for model in models]
    if len(functions) == 1:
        return functions[0](*given)
    return jax.lax.switch(jnp.sum(step >= jnp.array(begins[1:])), functions, *given)


# The model and the objective.


def applied(fixed: Fixed, model: Model, base: Any, trained: Any, *inputs: Any, key: jax.Array | None = None) -> Any:
    """Return what the model gives: an objective's `apply`."""
    rngs = {}
    if key is not None:
        rngs |= {"dropout": key} if fixed.config.drops else {}
        rngs |= {"steps": key} if fixed.config.model.ode.min_steps else {}
        rngs |= {"capacity": key} if fixed.config.model.moe.capacity else {}
    return model.apply({"params": fixed.merge(trained, base)}, *inputs, rngs=rngs)


def prepared(fixed: Fixed, model: Model, trained: Any, frozen: Frozen, memo: Memo, batch: Batch) -> tuple[Batch, Memo]:
    """Return what the objective makes of the whole batch and its memo, before the batch is cut."""
    apply = functools.partial(applied, fixed, model, frozen.base)
    return fixed.objective.before(apply, trained, frozen.own, memo, batch)
