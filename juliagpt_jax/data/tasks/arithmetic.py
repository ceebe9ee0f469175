"""Addition in three ways of writing: plain, with the digits of the sum reversed, and on a scratchpad.

The sum's first digit depends on all digits of the operands, its last on two: who writes the last first needs to know
only the carry (Lee et al. 2023, Teaching Arithmetic to Small Transformers, arXiv 2307.03381, whose formats these are).
Operands have DIGITS digits and sums one more, with leading zeros, so that every digit has its place. All three ways
have the same operands.
"""

import re
from collections.abc import Callable

import numpy as np

from juliagpt_jax.data.tasks.task import Example, made

DIGITS = 3
SIZES = {"train": 10_000, "dev": 500, "test": 1_000}


def plain(split: str, path: str | None = None) -> list[Example]:
    """Return sums such as 128+367=0495."""
    return _examples(split, lambda a, b: _digits(a + b))


def backwards(split: str, path: str | None = None) -> list[Example]:
    """Return sums such as 128+367=5940, the last digit first."""
    return _examples(split, lambda a, b: _digits(a + b)[::-1])


def scratchpad(split: str, path: str | None = None) -> list[Example]:
    """Return sums such as 128+367=8+7+0=15 2+6+1=09 1+3+0=04 0495: a step adds two digits and the carry, from the last
    digits on."""
    return _examples(split, lambda a, b: f"{_steps(a, b)} {_digits(a + b)}")


def right(example: Example, written: str) -> bool:
    """Tell whether a written sum, on a scratchpad its last number, is the one."""
    return _last(written) == example.facts["number"]


def right_backwards(example: Example, written: str) -> bool:
    """Tell whether a sum that was written with its last digit first is the one."""
    return _last(written, -1) == example.facts["number"]


def _examples(split: str, write: Callable[[int, int], str]) -> list[Example]:
    def draw(rng: np.random.Generator) -> tuple[str, Example]:
        a, b = rng.integers(10**DIGITS, size=2).tolist()
        facts = {"number": a + b, "operands": (a, b)}
        return f"{min(a, b)}+{max(a, b)}", Example(f"{a:0{DIGITS}d}+{b:0{DIGITS}d}=", write(a, b), facts=facts)

    return made(split, SIZES, draw)


def _digits(total: int) -> str:
    return f"{total:0{DIGITS + 1}d}"


def _steps(a: int, b: int) -> str:
    steps, carry = [], 0
    for place in range(DIGITS):
        first, second = a // 10**place % 10, b // 10**place % 10
        steps.append(f"{first}+{second}+{carry}={first + second + carry:02d}")
        carry = (first + second + carry) // 10
    return " ".join(steps)


def _last(written: str, step: int = 1) -> int | None:
    """Return the last word of a text as a number, read forwards or backwards; None where it is none."""
    last = (written.split() or [""])[-1]
    return int(last[::step]) if re.fullmatch("[0-9]{1,18}", last) else None
