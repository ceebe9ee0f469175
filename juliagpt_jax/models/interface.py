"""The interface of a model, of whichever kind in MODELS (`models/build.py`) it is: all that other rooms ask of
it."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self

import jax
import jax.numpy as jnp

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models import roles
from juliagpt_jax.models.parameters import paths


class Model(Protocol):
    """A model without its parameters: an immutable value that can be compared, hashed, and so compiled for.

    Attributes:
        config: the model's part of the config.
        vocab: V.
        precision: of activations and matrix products; parameters, norms, softmax and logits are float32.
        schedule: for each layer the times 0 .. 1 of an ODE's steps, () where it has none; () for all as configured.
        int8: the kernels of Linears are kept as int8; for inference.
        encodes: it reads a text apart from the answer that it writes (`t5.py`).
    """

    encodes: ClassVar[bool]

    @property
    def config(self) -> knobs.Model: ...
    @property
    def vocab(self) -> int: ...
    @property
    def precision(self) -> str: ...
    @property
    def schedule(self) -> tuple[tuple[float, ...], ...]: ...
    @property
    def int8(self) -> bool: ...

    def init(self, rngs: Any, tokens: jax.Array) -> Any:
        """Return {"params": fresh parameters} from a key."""
        ...

    def apply(
        self,
        variables: Any,
        tokens: Any,
        positions: jax.Array | None = None,
        cache: Any = None,
        *,
        at: jax.Array | None = None,
        rngs: dict[str, jax.Array] | None = None,
    ) -> tuple[jax.Array, Any, dict[str, Any]]:
        """Return float32 logits (B, T, V), the continued cache, None without one, and what else there is to say of the
        pass, by name. {"params": ...} and tokens (B, T), or with a source that a model reads apart (`t5.py`); for
        positions see `gpt.py`. Given `at` (B,), a model that writes returns the logits (B, 1, V) of that token of each
        row alone: of a long prompt those of all tokens would be most of the memory."""
        ...

    def init_cache(self, batch: int, slots: int, first: int | None = None) -> Any:
        """Return an empty cache for `batch` sequences of at most `slots` tokens; given `first`, for sequences of any
        length, of which it keeps so many first tokens and the newest (`evicting.py`). There a pad is at PAD or more.

        Raises:
            UserError: the model cannot have one, because tokens see ahead, or none that evicts.
        """
        ...

    def check(self) -> None:
        """Refuse a config that the model's parts cannot be built for; nothing is computed.

        Raises:
            UserError: what a part says.
        """
        ...

    def clone(self, *, parent: None = None, **changes: Any) -> Self:
        """Return the model with other attributes."""
        ...


def check_no_decoder(
    config: knobs.Model, init: Callable[..., Any], plain: Mapping[str, tuple[Any, ...]], name: str
) -> None:
    """Refuse what only decoders have, and parameters without a role.

    Args:
        config: the model's part of the config.
        init: of the model.
        plain: what such a model has in place of it: the values that a knob may have, by knob.
        name: of such models, "a T5".

    Raises:
        UserError: naming the knob or the parameter.
    """
    for key, wanted in plain.items():
        value = getattr(config, key)
        if value not in wanted:
            said = " or ".join(map(str, wanted))
            raise UserError(f"config.model.{key}: {value} is of decoders; {name} has {said}")
    tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)  # only shapes: no device is started for a bad config
    made = jax.eval_shape(init, jax.ShapeDtypeStruct((2,), jnp.uint32), tokens)
    for path in paths(made["params"]):
        roles.of(path)
