"""Knobs of the training text: `config.data`."""

import dataclasses

from juliagpt_jax.ground.knobs import limits
from juliagpt_jax.ground.knobs.examples import Examples

LEARNED = ("char", "bpe")  # tokenizers that are made of the training text; any other is a file


@dataclasses.dataclass(frozen=True)
class Curriculum:
    """The order in which windows come, from easy to hard."""

    by: str = limits.text(was="order_by")
    after: float = limits.at_least(0, was="order_after")
    epochs: float = limits.at_least(0, was="order_epochs")
    parts: int = limits.at_least(1, was="order_parts")
    pacing: str = limits.text(was="pacing")
    pacing_start: float = limits.share(was="pacing_start")


@dataclasses.dataclass(frozen=True)
class Puzzle:
    """Puzzles in place of a text, for model.kind=recursive."""

    kind: str = limits.text(since="0.2", before="none")
    side: int = limits.within(2, 64, since="0.2", before=6)
    train: int = limits.at_least(1, since="0.2", before=1_000)
    test: int = limits.at_least(1, since="0.2", before=1_000)
    least: int = limits.at_least(0, since="0.2", before=10)
    most: int = limits.at_least(0, since="0.2", before=12)
    symmetries: bool = limits.knob(since="0.2", before=True)
    copies: int = limits.at_least(1, since="0.2", before=1)


@dataclasses.dataclass(frozen=True)
class Data:
    """The text that a run trains on, and what is taken of it."""

    path: str = limits.text()
    tokenizer: str = limits.text()
    vocab: int = limits.within(259, 2**20, since="0.2", before=2_048)
    errors: str = limits.one_of("strict", "replace")
    unknown: str = limits.one_of("error", "skip")
    on_bad: str = limits.one_of("error", "skip")
    max_bad: float = limits.share()
    max_leak: float = limits.share()
    snapshot: str = limits.knob(since="0.2", before="")
    scores: str = limits.knob()
    filter: str = limits.knob()
    keep: str = limits.knob()
    phase_weights: str = limits.knob()
    weights_by: str = limits.text()
    order: str = limits.text()
    windows: str = limits.one_of("ring", "documents", "fixed", since="0.2", before="ring")
    task: str = limits.text(since="0.2", before="none")
    examples: Examples = limits.group()
    curriculum: Curriculum = limits.group()
    puzzle: Puzzle = limits.group()
