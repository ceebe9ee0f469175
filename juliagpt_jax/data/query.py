"""The little language of data.filter, data.keep and data.phase_weights; what its words mean is for `selection` to say.

data.filter         phase in trivium, quadrivium; quality >= 0.6; author not in "Diogenes, of Sinope"
data.keep           middle 0.6 of difficulty        (top, middle or bottom share by a field; or random 0.6)
data.phase_weights  trivium:0.4, quadrivium:0.35, philosophy:0.25       (or a .json file that doremi wrote)
"""

import dataclasses
import math
import operator
import re
import sys
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import UserError

COMPARISONS = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION = re.compile(r"\s*(\w+)\s*(not\s+in\b|in\b|==|!=|>=|<=|>|<)\s*(.+?)\s*", re.ASCII | re.DOTALL)
_KEEP = re.compile(r"\s*(?:(top|middle|bottom)\s+(\S+)\s+of\s+(\w+)|random\s+(\S+))\s*", re.ASCII)
_QUOTED = r'"[^"]*"'


@dataclasses.dataclass(frozen=True)
class Condition:
    """`field how value`: how is "in", "not in" or a name of COMPARISONS; the value a list of texts or one text."""

    field: str
    how: str
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Keep:
    """A share of the passages: the `which` part of them in the order of a field, "" for random."""

    which: str
    share: float
    field: str


def parse_filter(text: str) -> list[Condition]:
    """The conditions of data.filter, all of which must hold.

    Raises:
        UserError: it is not of the form that this file's head shows.
    """
    conditions = []
    for part in re.findall(rf"(?:{_QUOTED}|[^;])+", text):
        match = _CONDITION.fullmatch(part)
        if not match or part.count('"') % 2:
            raise UserError(
                f"config.data.filter: {part.strip()!r} is no condition; write FIELD in WORD, WORD, or FIELD not in "
                f"WORD, or FIELD {' '.join(COMPARISONS)} VALUE, with ; between conditions"
            )
        field, how, value = match[1], " ".join(match[2].split()), match[3]
        texts = re.findall(rf"(?:{_QUOTED}|[^,])+", value) if "in" in how else [value]
        conditions.append(Condition(field, how, tuple(t.strip().strip('"') for t in texts)))
    return conditions


def parse_keep(text: str) -> Keep | None:
    """The wish of data.keep, None for all.

    Raises:
        UserError: it is not of the form that this file's head shows, or the share is not in (0, 1].
    """
    if not text.strip():
        return None
    match = _KEEP.fullmatch(text)
    if not match:
        raise UserError(f"config.data.keep: {text!r} is not top, middle or bottom SHARE of FIELD, nor random SHARE")
    share = number(match[2] or match[4])
    if not 0 < share <= 1:
        raise UserError(f"config.data.keep: the share {match[2] or match[4]} is not a number above 0 and at most 1")
    return Keep(match[1] or "", share, match[3] or "")


def parse_weights(text: str, by: str) -> dict[str, float]:
    """The shares of data.phase_weights by name, adding up to 1; empty for none.

    Args:
        by: the field of the names, data.weights_by; a file must have the same.

    Raises:
        UserError: a file that is missing or not one of weights, a weight that is negative or no number, a name twice.
    """
    pairs: list[tuple[str, Any]] = []
    if text.strip().endswith(".json"):
        path = Path(text.strip())
        try:
            values = sealed.read_json(path)
            pairs, of = list(values["weights"].items()), values["by"]
        except OSError as error:
            raise UserError(f"config.data.phase_weights: {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f'config.data.phase_weights: {path} is not a file of weights, {{"by": ..., "weights": {{...}}}}: '
                f"{type(error).__name__}: {error}"
            ) from error
        if of != by:
            raise UserError(f"config.data.phase_weights: {path} has weights by {of}; add --config.data.weights_by={of}")
    elif text.strip():
        for part in re.findall(rf"(?:{_QUOTED}|[^,])+", text):
            name, colon, share = part.rpartition(":")
            if not colon:
                raise UserError(f"config.data.phase_weights: {part.strip()!r} is not NAME:SHARE, nor a .json file")
            pairs.append((name.strip().strip('"'), number(share)))
    weights = dict(pairs)
    for name, value in pairs:
        if type(value) not in (int, float) or not 0 <= value <= sys.float_info.max:
            raise UserError(f"config.data.phase_weights: the share of {name!r} is not a number that is at least 0")
    if text.strip() and (len(weights) < len(pairs) or not 0 < sum(weights.values()) <= sys.float_info.max):
        raise UserError(
            "config.data.phase_weights: a name stands there twice, or all shares are 0, or there are none, or their "
            "sum is beyond any number"
        )
    total = sum(weights.values())
    return {name: value / total for name, value in weights.items()}


def write_weights(weights: dict[str, float]) -> str:
    """Weights in the form that data.phase_weights takes."""
    quoted = lambda name: f'"{name}"' if re.search("[,:]", name) else name
    return ", ".join(f"{quoted(name)}:{share:.6f}" for name, share in weights.items())


def number(text: str) -> float:
    """The number that a text is; nan for any other text."""
    try:
        return float(text)
    except ValueError:
        return math.nan
