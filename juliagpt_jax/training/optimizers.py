"""Optimizers: which rule updates which parameter, and the step that is taken.

`OPTIMIZERS[name](train, params)` is an optax transformation that turns gradients into directions for a learning rate of
one. They still point uphill: `descend` subtracts them, times the learning rate, and the weight decay with them.
"""

from typing import Any

import jax
import optax

from juliagpt_jax import config
from juliagpt_jax.errors import UserError
from juliagpt_jax.models.capture import is_linear
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.training.kfac import kfac


def schedule(train: config.Train) -> optax.Schedule:
    """Linear warm-up from lr / warmup over the first `warmup` steps, then a cosine that would reach min_lr at step
    `steps`, one after the last."""
    if train.warmup == 0:
        return optax.cosine_decay_schedule(train.lr, train.steps, alpha=train.min_lr / train.lr)
    return optax.warmup_cosine_decay_schedule(
        train.lr / train.warmup, train.lr, train.warmup, train.steps, end_value=train.min_lr
    )


def decayed(path: str) -> bool:
    """Whether weight decay acts on a parameter: on matrices, Monarch factors and the embedding; not on norm scales,
    biases, the taps of a convolution, what describes a filter, or how the time of an ODE acts on scales."""
    return path.split("/")[-1] in ("kernel", "left", "right", "embedding", "head")


def is_matrix(path: str) -> bool:
    """Whether a parameter is a matrix, or several along its leading axes, that maps channels to channels: what the
    rules for matrices take.

    These are the kernels and Monarch factors of Linears, and what the time of an ODE adds to those (modes, low-rank
    factors). Embedding and head are not: their one side counts characters. Nor are what describes a filter, the taps
    of a convolution, the network that makes an ODE's h(t), and the masked matrices over positions of MonarchHeads.
    """
    *_, parent, name = ["", *path.split("/")]
    if "/time/" in path:
        return name in ("left", "right", "modes") and is_matrix(parent.replace(".", "/"))
    return name == "kernel" or (name in ("left", "right") and parent != "mixer")


def rules(train: config.Train, params: Any) -> dict[str, str]:
    """{path: the name of the rule that updates it}: that of `train.optimizer` has what it `TAKES`, AdamW the rest."""
    takes = TAKES[train.optimizer]
    return {path: train.optimizer if takes(path) else "adamw" for path in paths(params)}


def rates(train: config.Train, params: Any) -> dict[str, float]:
    """{path: its highest learning rate}: `train.adam_lr` for what another rule leaves to AdamW, else `train.lr`."""
    apart = train.adam_lr and train.optimizer != "adamw"
    left = lambda rule: apart and rule == "adamw"
    return {path: train.adam_lr if left(rule) else train.lr for path, rule in rules(train, params).items()}


def descend(train: config.Train, params: Any, directions: Any, lr: jax.Array) -> Any:
    """The parameters after a step: p - rate (direction + weight_decay p), the decay where `decayed` says.

    `lr` is the learning rate of this step; one that is not `train.lr` at its highest follows in proportion.
    """

    def moved(path, p, direction):
        decay = train.weight_decay if decayed(path) else 0.0
        return p - lr * (rate[path] / train.lr) * (direction + decay * p if decay else direction)

    rate = rates(train, params)
    leaves = zip(paths(params).items(), jax.tree.leaves(directions), strict=True)
    return jax.tree.unflatten(jax.tree.structure(params), [moved(path, p, d) for (path, p), d in leaves])


def adamw(train: config.Train, params: Any) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2) after clipping by the global norm."""
    return optax.chain(optax.clip_by_global_norm(train.clip), optax.scale_by_adam(train.beta1, train.beta2))


# The parameters that a rule updates, by path; AdamW has the rest.
TAKES = {"adamw": lambda path: True, "kfac": is_linear}
OPTIMIZERS = {"adamw": adamw, "kfac": kfac}


def check_name(train: config.Train) -> None:
    """Raises UserError when `train.optimizer` is in no table."""
    if train.optimizer not in OPTIMIZERS:
        raise UserError(
            f"config.train.optimizer: no optimizer is called {train.optimizer!r}"
            f"{config.near(train.optimizer, OPTIMIZERS)}"
        )


def parameter_table(train: config.Train, params: Any) -> str:
    """One line a parameter: path, shape, count, the rule that updates it, its highest learning rate and its weight
    decay; and the total."""
    rows = [("parameter", "shape", "count", "rule", "lr", "decay")]
    rule, rate = rules(train, params), rates(train, params)
    for path, leaf in paths(params).items():
        decay = f"{train.weight_decay:g}" if decayed(path) else "0"
        rows.append((path, " x ".join(map(str, leaf.shape)), f"{leaf.size:,}", rule[path], f"{rate[path]:g}", decay))
    rows.append(("total", "", f"{count(params):,}", "", "", ""))
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    line = lambda row: "  ".join(f"{text:{side}{n}}" for text, side, n in zip(row, "<>><<<", wide, strict=True))
    return "\n".join(line(row).rstrip() for row in rows)


def count(params: Any) -> int:
    """Number of parameters; a tied head counts once."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
