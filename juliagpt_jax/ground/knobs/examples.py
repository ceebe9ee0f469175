"""Knobs of training on examples: `config.data.examples`."""

import dataclasses

from juliagpt_jax.ground.knobs import limits


@dataclasses.dataclass(frozen=True)
class Examples:
    """Questions with answers in place of a text, where `data.task` is not none."""

    chat: bool = limits.knob(since="0.2", before=False)
    length: int = limits.at_least(0, since="0.2", before=0)
    too_long: str = limits.one_of("error", "cut", "skip", since="0.2", before="error")
    pack: bool = limits.knob(since="0.2", before=False)
    most: int = limits.at_least(0, since="0.2", before=0)
    written: int = limits.at_least(0, since="0.2", before=200)
