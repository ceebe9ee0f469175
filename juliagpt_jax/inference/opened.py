"""A model that is ready to use: opened once, for every command that reads one.

Imports JAX only when a model is loaded: `store.workdir.find` answers mistakes before.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.store.run import Run
from juliagpt_jax.store.workdir import Found, open_run, read_adapters

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


def lend(opened: Opened, folders: Mapping[str, Path]) -> tuple[Opened, Any]:
    """Return the model as one that takes an adapter with each row, and the adapters of some folders, by name, side by
    side (`models.adapters.stack`); () for none.

    Raises:
        UserError: a folder has no adapters of this model, or they want its kernels in different forms.
        StorageError: no sound checkpoint.
    """
    if not folders:
        return opened, ()
    from juliagpt_jax.models import adapters
    from juliagpt_jax.models.precision import prepare
    from juliagpt_jax.store.adapters import Given, lay

    given = {name: read_adapters(folder, opened.run) for name, folder in folders.items()}
    forms = {own.form for own in given.values()}
    if len(forms) > 1:
        kept = ", ".join(f"{name} {own.form}" for name, own in given.items())
        raise UserError(f"--adapter: trained beside kernels in different forms ({kept}), which need a server each")
    (form,) = forms
    model = opened.model.clone(adapter=adapters.GIVEN, parent=None)
    opened = dataclasses.replace(opened, model=model)
    if form != "float":
        run = lay(opened.run, Given({}, "", form))
        model, params = prepare(model.clone(int8=False, parent=None), run.params, opened.precision)
        opened = dataclasses.replace(opened, run=run, model=model, params=params)
    return opened, adapters.stack([own.params for own in given.values()])
