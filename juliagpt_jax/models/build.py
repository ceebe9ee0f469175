"""From a config to the model that it describes: the kinds of models by name."""

import dataclasses
from typing import Any

from juliagpt_jax.ground import config, words
from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models import fields, ode
from juliagpt_jax.models.attention import VALUE_EMBEDDINGS
from juliagpt_jax.models.channels import CHANNELS, EXPERTS
from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.models.depth import DEPTHS
from juliagpt_jax.models.interface import Model
from juliagpt_jax.models.layers import INITS, LINEARS, NORMS
from juliagpt_jax.models.masks import MASKS
from juliagpt_jax.models.mixers import MIXERS
from juliagpt_jax.models.moe import GATES
from juliagpt_jax.models.recursive import CORES, Recursive
from juliagpt_jax.models.t5 import CHANNELS as T5_CHANNELS
from juliagpt_jax.models.t5 import T5


def build_model(config: config.Config, vocab: int) -> Model:
    """Return the model of a run."""
    more: dict[str, Any] = {"remat": config.train.remat, "energy": config.train.ode_energy > 0}
    if config.adapter.rank:
        more["adapter"] = config.adapter
    return make(config.model, vocab, config.train.precision, **more)


def make(model: knobs.Model, vocab: int, precision: str = "f32", **more: Any) -> Model:
    """Return the model of the kind that its config names.

    Args:
        more: `remat`, recompute each block in the backward pass instead of keeping its activations; `energy`, measure
            that of ODE layers; `int8`, kernels are kept as int8, as `models/precision.py` makes them; `adapter`, the
            knobs of adapters beside Linears.
    """
    return MODELS[model.kind](model, vocab, precision, **more)


def at_step(config: config.Config, model: Model, step: int) -> Model:
    """Return the model that weights were trained for in their first `step` steps: as it is, or dense where they have
    not yet been through one that `train.ternary_from` has rounded. The parameters are the same."""
    if not config.ternary_step or step > config.ternary_step:
        return model
    return model.clone(config=dataclasses.replace(model.config, linear="subln"), parent=None)


def phases(config: config.Config, model: Model) -> list[tuple[int, Model]]:
    """Return the models that a run trains one after the other, all with the same parameters, each with the step that it
    begins at: the first one at 0, the last one `model`. A recursive model may grow its cycles
    (`train.recursive.growth`; CGAR: 2025, arXiv 2511.08653)."""
    if config.ternary_step:
        return [(0, at_step(config, model, 0)), (config.ternary_step, model)]
    stages = [] if config.train.recursive.growth == "none" else config.train.recursive.growth.split()
    grown = []
    for i, (inner, outer) in enumerate(map(int, stage.split("x")) for stage in stages):
        own = dataclasses.replace(model.config.recursive, inner=inner, outer=outer)
        stage = model.clone(config=dataclasses.replace(model.config, recursive=own), parent=None)
        grown.append((config.train.steps * i // (len(stages) + 1), stage))
    return [*grown, (config.train.steps * len(stages) // (len(stages) + 1), model)]


def check(config: config.Config) -> None:
    """Refuse a word that is in no table, and a width that its parts cannot be built for.

    Raises:
        UserError: naming the key, the word and the words there are; or what a part says.
    """
    words.check(config, WORDS)
    build_model(config, 2).check()


MODELS = {"decoder": Decoder, "recursive": Recursive, "t5": T5}
WORDS = {
    "model.kind": MODELS,
    "model.mixer": MIXERS,
    "model.mask": MASKS,
    "model.channel": CHANNELS,
    "model.moe.expert": EXPERTS,
    "model.moe.gate": GATES,
    "model.depth": DEPTHS,
    "model.linear": LINEARS,
    "model.init": INITS,
    "model.value_embedding": VALUE_EMBEDDINGS,
    "model.norm": NORMS,
    "model.recursive.core": CORES,
    "model.t5.channel": T5_CHANNELS,
    "model.ode.solver": ode.SOLVERS,
    "model.ode.time": fields.TIMES,
    "model.ode.adjoint": ode.ADJOINTS,
}
