"""Fields of knobs, each with its limits, what runs had before it existed, and its name before it moved.

Nothing here has a default value: values, and what follows from them, live in the config files; `configs/base.py` names
every knob with its why.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

FIRST = "0.1"  # the version of the package whose knobs need no `since`


def knob(
    test: Callable[[Any], bool] = lambda v: True, says: str = "", *, since: str = FIRST, was: str = "", **before: Any
) -> Any:
    """A field of a group of knobs.

    Args:
        test: which values are possible.
        says: the limit in words, for the message and for docs/knobs.md.
        since: the version of the package that first had the knob.
        was: the knob's name in the group above, before it moved here.
        before: `before=VALUE`, what every run had before the knob existed. It must be given with a later `since`: old
            workdirs, packed files and rows of results are read with it.
    """
    if set(before) - {"before"} or (since == FIRST) == bool(before):
        raise TypeError("a knob that is newer than the first version has before=VALUE, and no other has")
    return dataclasses.field(metadata={"test": test, "says": says, "since": since, "was": was} | before)


def group() -> Any:
    """A field that holds a group of knobs."""
    return dataclasses.field()


def at_least(low: float, **more: Any) -> Any:
    return knob(lambda v: v >= low, f"must be at least {low}", **more)


def within(low: float, high: float, **more: Any) -> Any:
    return knob(lambda v: low <= v <= high, f"must be in {low} .. {high}", **more)


def one_of(*names: str, **more: Any) -> Any:
    return knob(lambda v: v in names, f"must be one of {', '.join(names)}", **more)


def positive(**more: Any) -> Any:
    return knob(lambda v: v > 0, "must be above 0", **more)


def below_one(**more: Any) -> Any:
    return knob(lambda v: 0 <= v < 1, "must be in [0, 1)", **more)


def share(**more: Any) -> Any:
    return knob(lambda v: 0 <= v <= 1, "must be in [0, 1]", **more)


def text(**more: Any) -> Any:
    return knob(lambda v: v.strip() != "", "must not be empty", **more)
