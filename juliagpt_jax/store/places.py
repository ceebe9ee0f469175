"""The pieces that families of transformers' models are written with: places of tensors, and checks of a config.json."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from juliagpt_jax.ground.errors import UserError


class Place(NamedTuple):
    """The place of one of our parameters: in which tensor, turned or not, and which of how many parts of its last
    axis."""

    ours: str
    name: str
    turned: bool = False
    part: int = 0
    parts: int = 1


def whole(facts: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Return a whole number above 0 of a config.json.

    Raises:
        UserError: it is none.
    """
    value = facts.get(key)
    value = default if value is None else value
    if type(value) is not int or not 0 < value < 2**31:
        raise UserError(f"{key} must be a whole number above 0, not {value!r}")
    return value


def hold(facts: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise a UserError where a setting is there and is none that is known."""
    for key, value in known.items():
        if facts.get(key, value) not in (value, None):
            raise UserError(f"{key}={facts[key]!r} is not known here, only {value!r}")
