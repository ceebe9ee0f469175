"""From a config to the model that it describes."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from juliagpt_jax.ground import config, words
from juliagpt_jax.models import fields, ode
from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.models.depth import DEPTHS
from juliagpt_jax.models.layers import LINEARS, NORMS
from juliagpt_jax.models.mixers import MIXERS

WORDS = {
    "model.mixer": MIXERS,
    "model.channel": CHANNELS,
    "model.depth": DEPTHS,
    "model.linear": LINEARS,
    "model.norm": NORMS,
    "model.ode.solver": ode.SOLVERS,
    "model.ode.time": fields.TIMES,
    "model.ode.adjoint": ode.ADJOINTS,
}


def build_model(config: config.Config, vocab: int) -> Decoder:
    """The model of a run."""
    return Decoder(config.model, vocab, config.train.precision, config.train.remat, energy=config.train.ode_energy > 0)


def at_step(config: config.Config, model: Decoder, step: int) -> Decoder:
    """The model that weights were trained for in their first `step` steps: as it is, or dense where they have not yet
    been through one that `train.ternary_from` has rounded. The parameters are the same."""
    if not config.ternary_step or step > config.ternary_step:
        return model
    return model.clone(model=dataclasses.replace(model.model, linear="subln"), parent=None)


def check(config: config.Config) -> None:
    """Refuse a word that is in no table, and a width that its parts cannot be built for.

    Raises:
        UserError: naming the key, the word and the words there are; or what a part says.
    """
    words.check(config, WORDS)
    model = config.model
    different = math.lcm(len(model.mixer.split()), len(model.channel.split()))
    key, x = jax.ShapeDtypeStruct((2,), jnp.uint32), jax.ShapeDtypeStruct((1, 2, model.width), jnp.float32)
    for block in Decoder(model, 2).blocks()[:different]:  # only shapes: no device is started for a bad config
        jax.eval_shape(block.init, key, x, jax.ShapeDtypeStruct((1, 2), jnp.int32))
