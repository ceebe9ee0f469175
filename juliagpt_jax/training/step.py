"""The one train step: pure, jitted once, its state donated.

Loss scaling, accumulation, clipping, the optimizer, the average of the weights and the refusal of non-finite updates
are all inside it. All randomness is fold_in(key(seed), step).
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from juliagpt_jax.data.sampler import IGNORED
from juliagpt_jax.ground import config
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models import capture, roles
from juliagpt_jax.models.build import at_step
from juliagpt_jax.models.interface import Model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.objectives.ngrams import Penalty
from juliagpt_jax.training import kfac, schedules
from juliagpt_jax.training.mesh import batch_sharding, diffrax_loops, shardings
from juliagpt_jax.training.optimizers import OPTIMIZERS, descend
from juliagpt_jax.training.state import TrainState, initial_state

DRAWS = 2**32 - 1  # folded into a step's key for what K-FAC draws; micro-batches and devices fold in small numbers
GROWTH_INTERVAL = 500  # good f16 steps before the loss scale doubles


def make_train_step(
    config: config.Config,
    model: Model,
    mesh: jax.sharding.Mesh,
    penalty: Penalty | None = None,
    weighted: bool = False,
):
    """The jitted `train_step(state, (inputs, targets)) -> (state, metrics)`.

    inputs and targets are (B, T) int32; a target of IGNORED is not scored. With `weighted` the batch is (inputs,
    (targets, weights)): the loss is the mean over the targets by their rows' weights (B, 1). `penalty` is added to it,
    times `train.ngram.weight`, in the gradient and not in the metrics. Metrics are scalars: loss (nats a target),
    grad_norm (before clipping), lr, scale, skipped, bad_in_row, and `bad_leaf`: the index, in the order of the
    parameter table, of the first parameter with a non-finite gradient; -1 when only the loss or the norm is bad or
    nothing is.
    """
    step = pure_step(config, model, mesh, penalty, weighted)
    abstract = jax.eval_shape(lambda: initial_state(config, model))
    placed, whole = shardings(abstract, mesh), NamedSharding(mesh, PartitionSpec())
    rows = batch_sharding(mesh)
    return jax.jit(
        lambda state, batch: step(state, batch, config.seed),
        donate_argnums=0,
        in_shardings=(placed, (rows, rows)),
        out_shardings=(placed, whole),
    )


def make_joint_step(
    config: config.Config, model: Model, mesh: jax.sharding.Mesh, seeds: Sequence[int], penalty: Penalty | None = None
):
    """The jitted step of several runs that differ in their seed alone, as one vmapped train step:
    `joint(states, batches) -> ((state, metrics), ...)`, of tuples with what `train_step` has for each seed.

    Each run is what it would be alone but for the order of summation in batched products: about 1e-6 a step in float32.
    """
    step = pure_step(config, model, mesh, penalty)
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    def joint(states, batches):
        out = jax.vmap(step)(stack(states), stack(batches), jnp.array(seeds, jnp.uint32))
        return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], out) for i in range(len(seeds)))

    return jax.jit(joint, donate_argnums=0)


def pure_step(
    config: config.Config,
    model: Model,
    mesh: jax.sharding.Mesh,
    penalty: Penalty | None = None,
    weighted: bool = False,
):
    """What `make_train_step` jits, `train_step(state, batch, seed)`: all of the config is fixed in it but the seed."""
    train = config.train
    learning_rate = schedules.learning_rate(config)
    rows = batch_sharding(mesh)

    def forward(model, params, inputs, key):
        rngs = {"dropout": key} if config.model.dropout else {}
        rngs |= {"steps": key} if config.model.ode.min_steps else {}
        out: Any = model.apply({"params": params}, inputs, rngs=rngs)
        return out

    def loss_sum(model, params, inputs, targets, key, scale):
        logits, _, aux = forward(model, params, inputs, key)
        targets, weights = targets if weighted else (targets, None)
        losses = token_losses(logits, targets)
        total = objective = jnp.sum(losses) if weights is None else jnp.sum(losses * weights)
        if penalty is not None:
            objective += train.ngram.weight * penalty(logits, inputs, targets)
        if train.ode_energy and "ode" in aux:
            scored = targets != IGNORED
            energy: Any = sum(solve.energy for solve in aux["ode"])
            objective += train.ode_energy * energy * jnp.sum(scored if weights is None else scored * weights)
        return objective * scale, total

    def sampled_loss_sum(model, params, inputs, targets, key, draws, scale):
        """As if the targets had been drawn from the model; `draws` (B, 2): a random key for each row, so that the
        draws do not depend on how the batch is cut."""
        logits, *_ = forward(model, params, inputs, key)
        targets, weights = targets if weighted else (targets, None)
        one = lambda key, logits: jax.random.categorical(jax.random.wrap_key_data(key), logits)
        drawn = jax.vmap(one)(draws, jax.lax.stop_gradient(logits))
        losses = token_losses(logits, jnp.where(targets == IGNORED, IGNORED, drawn))
        return scale * jnp.sum(losses if weights is None else losses * jnp.sqrt(weights))

    def moments(model, params, batch, targets, key, scale):
        """What K-FAC's factors are made of, summed over the batch."""
        inputs, draws = batch
        if train.kfac.fisher == "sampled":
            loss = lambda p: sampled_loss_sum(model, p, inputs, targets, key, draws, scale)
        else:
            loss = lambda p: loss_sum(model, p, inputs, targets, key, scale)[0]
        linears = [path for path in paths(params) if roles.of(path).tapped]
        return capture.moments(loss, params, linears, len(inputs), train.kfac.sharing == "reduce")

    # Sums over the batch, of the gradient times the scale and of the loss.
    gradient = jax.grad(loss_sum, argnums=1, has_aux=True)

    def over_batch(sums, step, *given):
        """sums(model, params, inputs, targets, key, scale), a tree of sums over the batch, of the model as it is at a
        step: both that a run has are in the one program."""
        over = lambda model: functools.partial(one_model, functools.partial(sums, model))
        if not config.ternary_step:
            return over(model)(*given)
        return jax.lax.cond(step < config.ternary_step, over(at_step(config, model, 0)), over(model), *given)

    def one_model(sums, params, inputs, targets, key, scale):
        """The same of one model, one micro-batch at a time."""
        if train.accumulate == 1:
            return sums(params, inputs, targets, key, scale)

        def one_by_one(params, inputs, targets, key, scale):
            def part(micro, i):
                return sums(params, *micro, jax.random.fold_in(key, i), scale)

            def add(total, micro):
                return jax.tree.map(jnp.add, total, part(*micro)), None

            micro = jax.tree.map(lambda a: a.reshape(train.accumulate, -1, a.shape[-1]), (inputs, targets))
            micro = micro, jnp.arange(train.accumulate)
            shapes = jax.eval_shape(part, *jax.tree.map(lambda a: a[0], micro))
            zeros = jax.tree.map(lambda s: jnp.zeros_like(scale, s.dtype, s.shape), shapes)
            return jax.lax.scan(add, zeros, micro)[0]

        if diffrax_loops(config.model):  # which fail inside shard_map; there is one device
            return one_by_one(params, inputs, targets, key, scale)

        # Every device runs its own rows through its own micro-batches, and the devices add up their sums once, at the
        # end. Left to the compiler they would meet after each micro-batch.
        axes = tuple(mesh.axis_names)

        def on_device(params, inputs, targets, key, scale):
            params, key, scale = jax.lax.pcast((params, key, scale), axes, to="varying")
            key = jax.random.fold_in(key, jax.lax.axis_index(axes))
            return jax.lax.psum(one_by_one(params, inputs, targets, key, scale), axes)

        whole = PartitionSpec()
        split = jax.shard_map(
            on_device, mesh=mesh, in_specs=(whole, rows.spec, rows.spec, whole, whole), out_specs=whole
        )
        return split(params, inputs, targets, key, scale)

    def train_step(
        state: TrainState, batch: tuple[jax.Array, Any], seed: Any
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        inputs, targets = batch
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        # The scale is applied to the mean loss: f16 has no room for it on top of a sum over the batch.
        count = jnp.sum(targets[1] * (targets[0] != IGNORED) if weighted else targets != IGNORED).astype(jnp.float32)
        grads, total = over_batch(gradient, state.step, state.params, inputs, targets, key, state.scale / count)
        loss = total / count
        grads = jax.tree.map(lambda g: g / state.scale, grads)
        grad_norm = optax.tree.norm(grads)

        # The norm, too: a finite gradient can overflow its own square, which would stay in a moment for ever. What the
        # update gives is not looked at: that would hold the new and the old state in memory side by side.
        leaf_ok = jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads)])
        finite = jnp.all(leaf_ok) & jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        bad_leaf = jnp.where(jnp.all(leaf_ok), -1, jnp.argmin(leaf_ok))

        lr = jnp.asarray(learning_rate(state.step))
        optimizer = optax.with_extra_args_support(OPTIMIZERS[train.optimizer](train, state.params))

        def measure():
            """K-FAC's factors of this batch."""
            each = lambda row: jax.random.key_data(jax.random.fold_in(jax.random.fold_in(key, DRAWS), row))
            given = inputs, jax.vmap(each)(jnp.arange(len(inputs)))
            scale = state.scale / count
            sums = over_batch(moments, state.step, state.params, given, targets, key, scale)
            return kfac.measured(sums, count, scale)

        # What is not finite is dropped below; here it would only cost the time that a decomposition tries to converge.
        grads = jax.tree.map(lambda g: jnp.where(finite, g, 0), grads)
        directions, opt_state = optimizer.update(grads, state.opt_state, state.params, measure=measure, lr=lr)
        trust = optax.tree.get(opt_state, "trust")  # of K-FAC, which inverts what no gradient shows
        finite &= True if trust is None else jnp.isfinite(trust)
        decay = schedules.weight_decay(train, state.step, lr)
        params = descend(train, state.params, directions, lr, decay)
        averaged = state.averaged
        if averaged != ():
            weight = schedules.averaging(train)(state.step)
            averaged = jax.tree.map(lambda a, p: (1 - weight) * a + weight * p, averaged, params)
        keep = lambda new, old: jnp.where(finite, new, old)
        params, opt_state, averaged = jax.tree.map(
            keep, (params, opt_state, averaged), (state.params, state.opt_state, state.averaged)
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
            mixture=state.mixture,
        )
        metrics = {"loss": loss, "grad_norm": grad_norm, "lr": lr, "scale": scale, "bad_leaf": bad_leaf}
        if trust is not None:
            metrics["trust"] = trust
        return state, metrics | {"skipped": state.skipped, "bad_in_row": state.bad_in_row}

    return train_step
