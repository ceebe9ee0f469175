"""A model that is ready to use: opened once, for every command that reads one.

Imports JAX only when a model is loaded: `store.workdir.find` answers mistakes before.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.store.run import Run
from juliagpt_jax.store.workdir import Found, open_run

if TYPE_CHECKING:
    from juliagpt_jax.models.interface import Model


@dataclasses.dataclass(frozen=True)
class Opened:
    """A model that computes.

    Attributes:
        run: as it lies on the disk: config, text, step, the weights as they were trained.
        model: the network, in `precision` and on its steps where it has ODE layers.
        params: the weights as `model` wants them.
        precision: a word of models/precision.py.
        adaptive: the network whose solves adapt to each batch, which looks ahead; None where no tolerance says how.
    """

    run: Run
    model: "Model"
    params: Any
    precision: str
    adaptive: "Model | None"

    @property
    def tokenizer(self) -> Tokenizer:
        return self.run.tokenizer

    @property
    def stops(self) -> tuple[int, ...]:
        """The ids with which the model ends what it writes: a text, or its turn in a conversation."""
        stops = self.tokenizer.stops
        return tuple(sorted({self.tokenizer.ending, *stops})) if self.model.encodes else stops


def open_model(found: Found, precision: str | None = None) -> Opened:
    """Load a model that was found, in a precision and, where it has ODE layers, on the steps that are asked for.

    Args:
        precision: a word of models/precision.py; None: as trained, or as packed.

    Raises:
        UserError: the weights do not fit the config, or cannot be had so.
        StorageError: no sound checkpoint.
        NumericalError: an ODE does not arrive at the tolerance.
    """
    from juliagpt_jax.inference import schedule
    from juliagpt_jax.models import precision as precisions

    run = open_run(found)
    decoder, adaptive = schedule.choose(run, found.ode)
    word = precision or decoder.precision
    model, params = precisions.prepare(decoder, run.params, word)
    if adaptive:
        adaptive = adaptive.clone(precision=model.precision, int8=model.int8, parent=None)
    return Opened(run, model, params, word, adaptive)
