"""Optimizers: which rule updates which parameter, and the step that is taken.

`OPTIMIZERS[name](train, params)` is an optax transformation that turns gradients into directions for a learning rate of
one. They still point uphill: `descend` subtracts them, times the learning rate, and the weight decay with them.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from juliagpt_jax.ground import config
from juliagpt_jax.models import roles
from juliagpt_jax.models.parameters import by_path, count, paths
from juliagpt_jax.training.kfac import scale_by_kfac
from juliagpt_jax.training.muon import POLAR, scale_by_muon
from juliagpt_jax.training.signs import scale_by_adam_atan2, signs_of_rows
from juliagpt_jax.training.soap import scale_by_soap


def rules(train: config.Train, params: Any) -> dict[str, str]:
    """{path: the name of the rule that updates it}: what a recursive model has of its own has `KINDS`', that of
    `train.optimizer` has what it `TAKES` of the others, AdamW the rest."""
    takes = TAKES[train.optimizer]
    other = lambda role: train.optimizer if takes(role) else "adamw"
    return {path: KINDS.get(roles.of(path).kind) or other(roles.of(path)) for path in paths(params)}


def rates(train: config.Train, params: Any) -> dict[str, float]:
    """{path: its highest learning rate}: `train.adam_lr`, if there is one, for what another rule leaves to AdamW, and
    under AdamW itself for what is no matrix, so that it can be compared with the others at two rates as well."""
    mine = _matrix if train.optimizer == "adamw" else TAKES[train.optimizer]

    def rate(role: roles.Role) -> float:
        if KINDS.get(role.kind) == "signs":
            return train.recursive.ids_lr or train.lr
        return train.lr if mine(role) or not train.adam_lr else train.adam_lr

    return {path: rate(roles.of(path)) for path in paths(params)}


def decays(train: config.Train, params: Any) -> dict[str, float]:
    """{path: its weight decay}, 0 where its role has none: `train.weight_decay`. With `train.decay_tau` it is what the
    highest rate makes an average over as many epochs of (Wang & Aitchison 2024, arXiv 2405.13698): a parameter of twice
    the rate has half the decay. `schedules.settled` has set `train.weight_decay` for one whose rate is `train.lr`."""
    rate = rates(train, params)

    def decay(path: str) -> float:
        role = roles.of(path)
        if not role.decay:
            return 0.0
        if not train.decay_tau:
            return train.weight_decay
        tau = train.decay_tau if role.matrix else train.decay_tau_embed or train.decay_tau
        return train.weight_decay * (train.lr / rate[path]) * (train.decay_tau / tau)

    return {path: decay(path) for path in paths(params)}


def descend(train: config.Train, params: Any, directions: Any, lr: jax.Array, decay: jax.Array) -> Any:
    """The parameters after a step: p - lr direction - decay p, the decay where the parameter's role says.

    `lr` and `decay` are this step's for a parameter whose highest rate is `train.lr` and whose weight decay is
    `train.weight_decay`; another's are in proportion. With
    `train.cautious` only those numbers decay that the step itself draws towards zero (Chen et al. 2025, arXiv
    2510.12402).
    """

    def moved(path, p, direction):
        share = rate[path] / train.lr
        after = p - share * lr * direction
        if not own[path]:
            return after
        lost = share * (own[path] / train.weight_decay) * decay * p
        return after - (jnp.where(direction * p > 0, lost, 0) if train.cautious else lost)

    rate, own = rates(train, params), decays(train, params)
    leaves = zip(paths(params).items(), jax.tree.leaves(directions), strict=True)
    return jax.tree.unflatten(jax.tree.structure(params), [moved(path, p, d) for (path, p), d in leaves])


def clip(most: float) -> optax.GradientTransformation:
    """Return `optax.clip_by_global_norm`: gradients whose norm is above `most` are scaled down to it.

    The share is one number before it meets a leaf. Else XLA puts the sum over all leaves, a chain of cheap additions,
    into the update of each.
    """

    def scaled(gradients: Any, params: Any = None) -> Any:
        share = most / jnp.maximum(optax.tree.norm(gradients), most)
        return jax.tree.map(lambda leaf: leaf * share, gradients)

    return optax.stateless(scaled)


def adamw(train: config.Train, params: Any) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2) after clipping by the global norm."""
    adam = optax.scale_by_adam(train.beta1, train.beta2)
    if {*rules(train, params).values()} != {"adamw"}:
        return beside_adam(train, params, adam)
    return optax.chain(clip(train.clip), adam)


def adam_atan2(train: config.Train, params: Any) -> optax.GradientTransformation:
    """AdamW's directions by an arc tangent in place of its quotient, after clipping by the global norm."""
    return beside_adam(train, params, scale_by_adam_atan2(train.beta1, train.beta2))


def beside_adam(train: config.Train, params: Any, rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """After clipping by the global norm of all gradients, `rule` for what it takes and Adam for the rest; `KINDS` say
    which parameters have a rule of their own."""
    named = rules(train, params)
    labels = jax.tree.unflatten(jax.tree.structure(params), list(named.values()))
    each: dict[Any, optax.GradientTransformation] = {
        train.optimizer: rule,
        "adamw": optax.scale_by_adam(train.beta1, train.beta2),
    }
    own = {"signs": signs_of_rows(train.recursive.ids_decay), "fixed": optax.set_to_zero()}
    each |= {name: rule for name, rule in own.items() if name in named.values()}
    return optax.chain(clip(train.clip), optax.partition(each, labels))


def muon(train: config.Train, params: Any) -> optax.GradientTransformation:
    """Muon, a step of spectral norm sqrt(max(1, out / in)) for each matrix; in bfloat16 where the model's products
    are."""

    def scaled(path, direction):
        fan_in, fan_out = roles.of(path).sides(direction.shape)
        return direction * max(1, fan_out / fan_in) ** 0.5

    dtype = jnp.bfloat16 if train.precision == "bf16" else jnp.float32
    by_shape = optax.stateless(lambda directions, params: by_path(directions, scaled))
    rule = optax.chain(scale_by_muon(train.muon.momentum, train.muon.polar, dtype), by_shape)
    return beside_adam(train, params, rule)


def soap(train: config.Train, params: Any) -> optax.GradientTransformation:
    """SOAP on every matrix."""
    rule = scale_by_soap(train.beta1, train.beta2, train.soap.every, train.soap.max_side)
    return beside_adam(train, params, rule)


def kfac(train: config.Train, params: Any) -> optax.GradientTransformation:
    """K-FAC on the weights of all Linears, an untied head among them."""
    return beside_adam(train, params, scale_by_kfac(train))


def _matrix(role: roles.Role) -> bool:
    return role.matrix


# Rules of their own, by the kinds of roles, under every optimizer.
KINDS = {"ids": "signs", "start": "fixed"}
# The parameters that a rule updates, by their role; AdamW has the rest.
TAKES = {
    "adamw": lambda role: True,
    "adam_atan2": lambda role: True,
    "muon": _matrix,
    "soap": _matrix,
    "kfac": lambda role: role.tapped,
}
OPTIMIZERS = {"adamw": adamw, "adam_atan2": adam_atan2, "muon": muon, "soap": soap, "kfac": kfac}
WORDS = {"train.optimizer": OPTIMIZERS, "train.muon.polar": POLAR}


def parameter_table(train: config.Train, params: Any) -> str:
    """One line a parameter: path, shape, count, the rule that updates it, its highest learning rate and its weight
    decay; and the total."""
    rows = [("parameter", "shape", "count", "rule", "lr", "decay")]
    rule, rate, decay = rules(train, params), rates(train, params), decays(train, params)
    for path, leaf in paths(params).items():
        numbers = f"{rate[path]:g}", f"{decay[path]:g}"
        rows.append((path, " x ".join(map(str, leaf.shape)), f"{leaf.size:,}", rule[path], *numbers))
    rows.append(("total", "", f"{count(params):,}", "", "", ""))
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    line = lambda row: "  ".join(f"{text:{side}{n}}" for text, side, n in zip(row, "<>><<<", wide, strict=True))
    return "\n".join(line(row).rstrip() for row in rows)
