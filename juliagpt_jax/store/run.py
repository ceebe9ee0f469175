"""A trained model as a workdir or a packed file holds it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError

if TYPE_CHECKING:
    from juliagpt_jax.models.interface import Model


NO_GRADIENTS = "has no gradients; give"


def refuse_packed(path: Path, why: str = NO_GRADIENTS) -> NoReturn:
    """Raise the UserError of `Run.refuse_packed`."""
    raise UserError(f"{path} is a packed model, which {why} the workdir that it was made of")


def _refuse(why: str) -> NoReturn:
    raise UserError(why)


@dataclasses.dataclass(frozen=True)
class Run:
    """A model and what is known of its training.

    Attributes:
        config: as it was trained; of a packed model, as it computes.
        model: the network that the weights were trained for in their first `step` steps.
        params: its parameters, or their average over training.
        meta: what the checkpoint says beside the weights: "data" (fingerprint of the text), "schedule", "val_loss", ...
        folder: of the checkpoint; or the packed file.
        averaged: the parameters are the average.
    """

    config: config.Config
    tokenizer: Tokenizer
    model: "Model"
    params: Any
    step: int
    meta: dict[str, Any]
    folder: Path
    averaged: bool = False

    @property
    def workdir(self) -> Path:
        """The folder or file that a command's --workdir names."""
        return self.folder.parents[1] if self.folder.parent.name == "checkpoints" else self.folder

    def corpus(self, other: Callable[[str], Any] = _refuse) -> corpora.Corpus:
        """Load the text that the config names.

        Args:
            other: called with a line that says so where this is not the text that the model was trained on.

        Raises:
            UserError: it is another text, unless `other` takes that; or as `data.corpus.load`.
        """
        corpus = corpora.load(self.config.data, self.config.model.context)
        if corpus.fingerprint != self.meta["data"]:
            other(f"{self.config.data.path} is not the text that {self.workdir} was trained on")
        return corpus

    def refuse_packed(self, why: str = NO_GRADIENTS) -> None:
        """Raise a UserError where the weights are bytes, as in a packed file.

        Args:
            why: what is missing, and what to do with "the workdir that it was made of".
        """
        if self.model.int8:
            refuse_packed(self.folder, why)
