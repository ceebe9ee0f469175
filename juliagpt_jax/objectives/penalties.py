"""Terms that are minimised beside a loss, each there if the config gives it a weight.

A term is a function of what the model said, `penalty(logits (B, T, V), aux, batch) -> ()`: nats times its weight,
summed over the scored targets. So it goes with any objective that has logits for a batch's targets.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.data.selection import Selection
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives import experts, ngrams
from juliagpt_jax.objectives.experts import Penalty
from juliagpt_jax.objectives.objective import Chosen


def ngram(config: config.Config, model: Model, chosen: Chosen | None) -> Penalty | None:
    """Return `train.ngram.kind`, from n-grams of the training text, times `train.ngram.weight`.

    Raises:
        UserError: there is no training text, or its vocabulary is too large to count its n-grams.
    """
    own = config.train.ngram
    if not own.weight:
        return None
    if not isinstance(chosen, Selection):
        raise UserError(f"config.train.ngram.weight={own.weight}: n-grams are counted in a corpus, and here is none")
    of = ngrams.PENALTIES[own.kind](np.asarray(chosen.tokens), model.vocab)
    return lambda logits, aux, batch: own.weight * of(logits, batch.inputs, batch.targets)


def ode_energy(config: config.Config, model: Model, chosen: Chosen | None) -> Penalty | None:
    """Return the kinetic energy of ODE layers times `train.ode_energy`: fields that move little need few steps (Finlay
    et al. 2020, arXiv 2002.02798). It is a mean over the rows at hand, so that a batch may be cut into parts with
    unequal numbers of scored targets only nearly without a change."""
    weight = config.train.ode_energy
    if not weight:
        return None

    def penalty(logits: jax.Array, aux: dict[str, Any], batch: Batch) -> jax.Array:
        energy: Any = sum(solve.energy for solve in aux.get("ode", ()))
        return weight * energy * jnp.sum(batch.weighed(batch.scored))

    return penalty


PENALTIES = {  # by the knob that weighs it
    "train.ngram.weight": ngram,
    "train.ode_energy": ode_energy,
    "train.moe.balance": experts.balance,
    "train.moe.router_z": experts.router_z,
}


def make(config: config.Config, model: Model, chosen: Chosen | None) -> list[Penalty]:
    """Return the penalties that a config asks for.

    Raises:
        UserError: as the functions above.
    """
    made = [of(config, model, chosen) for of in PENALTIES.values()]
    return [penalty for penalty in made if penalty is not None]
