"""From a config to the model that it describes."""

import dataclasses

from juliagpt_jax.ground import config
from juliagpt_jax.models.decoder import Decoder


def build_model(config: config.Config, vocab: int) -> Decoder:
    """The model of a run."""
    return Decoder(config.model, vocab, config.train.precision, config.train.remat, energy=config.train.ode_energy > 0)


def at_step(config: config.Config, model: Decoder, step: int) -> Decoder:
    """The model that weights were trained for in their first `step` steps: as it is, or dense where they have not yet
    been through one that `train.ternary_from` has rounded. The parameters are the same."""
    if not config.ternary_step or step > config.ternary_step:
        return model
    return model.clone(model=dataclasses.replace(model.model, linear="subln"), parent=None)
