"""The words that a config may name: one walk holds them all to the tables that the rooms export."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from juliagpt_jax.ground.errors import UserError

# {"model.mixer": MIXERS, ...}: for a knob the table that its words, one or several with spaces between, stand in.
Words = Mapping[str, Mapping[str, Any]]

FAR = 0.2  # names so much less like a word than the nearest are not meant


def check(config: Any, words: Words) -> None:
    """Hold every word of a config, or of a part of it, to its table.

    Args:
        words: keys as dotted names from `config` on.

    Raises:
        UserError: naming the key, the word, and the words there are.
    """
    for key, table in words.items():
        value = config
        for name in key.split("."):
            value = getattr(value, name)
        for word in value.split() or [value]:
            if word not in table:
                kind = key.split(".")[-1].replace("_", " ")
                raise UserError(f"config.{key}: no {kind} is called {word!r}{near(word, table)}")


def near(name: str, names: Iterable[str]) -> str:
    """Return '; did you mean ...?' with the nearest names, '; there are: ...' when none is near, '; there is none' when
    there are no names. For error messages."""
    names = list(names)
    if not names:
        return "; there is none"
    matches = difflib.get_close_matches(name, names, n=3)
    likeness = lambda other: difflib.SequenceMatcher(None, other, name).ratio()
    matches = [match for match in matches if likeness(match) > likeness(matches[0]) - FAR]
    if matches:
        return f"; did you mean {' or '.join(matches)}?"
    return f"; there are: {', '.join(sorted(names))}"
