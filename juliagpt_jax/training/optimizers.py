"""Optimizers: each turns gradients into a step of unit learning rate; `step.py` multiplies it by the schedule.

`OPTIMIZERS[name](train, params)` is an optax transformation whose result still points uphill (the loop subtracts it).
"""

from typing import Any

import jax
import optax

from juliagpt_jax import config
from juliagpt_jax.errors import UserError


def schedule(train: config.Train) -> optax.Schedule:
    """Linear warm-up from lr / warmup over the first `warmup` steps, then a cosine that would reach min_lr at step
    `steps`, one after the last."""
    if train.warmup == 0:
        return optax.cosine_decay_schedule(train.lr, train.steps, alpha=train.min_lr / train.lr)
    return optax.warmup_cosine_decay_schedule(
        train.lr / train.warmup, train.lr, train.warmup, train.steps, end_value=train.min_lr
    )


def paths(tree: Any) -> dict[str, Any]:
    """{"block_0/mixer/query/kernel": leaf, ...} in the tree's own order."""
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def decayed(path: str) -> bool:
    """Whether weight decay acts on a parameter: on matrices, Monarch factors, the embedding and learned positions;
    not on norm scales, biases, the taps of a convolution, what describes a filter, or how the time of an ODE acts on
    scales."""
    return path.split("/")[-1] in ("kernel", "left", "right", "embedding", "positions", "head")


def _by_path(rule, params: Any) -> Any:
    return jax.tree.unflatten(jax.tree.structure(params), [rule(path) for path in paths(params)])


def adamw(train: config.Train, params: Any) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2) after clipping by the global norm."""
    return optax.chain(
        optax.clip_by_global_norm(train.clip),
        optax.scale_by_adam(train.beta1, train.beta2),
        optax.add_decayed_weights(train.weight_decay, mask=_by_path(decayed, params)),
    )


OPTIMIZERS = {"adamw": adamw}


def check_name(train: config.Train) -> None:
    """Raises UserError when `train.optimizer` is in no table."""
    if train.optimizer not in OPTIMIZERS:
        raise UserError(
            f"config.train.optimizer: no optimizer is called {train.optimizer!r}"
            f"{config.near(train.optimizer, OPTIMIZERS)}"
        )


def parameter_table(train: config.Train, params: Any) -> str:
    """One line a parameter: path, shape, count, the rule that updates it, its weight decay; and the total."""
    rows = [("parameter", "shape", "count", "rule", "decay")]
    for path, leaf in paths(params).items():
        decay = f"{train.weight_decay:g}" if decayed(path) else "0"
        rows.append((path, " x ".join(map(str, leaf.shape)), f"{leaf.size:,}", train.optimizer, decay))
    rows.append(("total", "", f"{count(params):,}", "", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    line = lambda row: (
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:<{widths[3]}}  {row[4]}"
    )
    return "\n".join(line(row).rstrip() for row in rows)


def count(params: Any) -> int:
    """Number of parameters; a tied head counts once."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
