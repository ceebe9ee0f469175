"""Chained sums: several numbers, added and taken away one after the other, each step written as a calculator reads it.

A model that is sure of the way and not of the sums is wrong somewhere on a long chain; with a calculator (`search/`)
only the way is its own. The notation is that of GSM8K's solutions (Cobbe et al. 2021, arXiv 2110.14168).
"""

import re

import numpy as np

from juliagpt_jax.data.tasks.task import Example, made

SIZES = {"train": 20_000, "dev": 500, "test": 1_000}
STEPS = (2, 4)  # fewest and most
LARGEST = 99  # of the numbers
_LAST = re.compile(r"(-?[0-9]{1,9})\s*$")


def chains(split: str, path: str | None = None) -> list[Example]:
    """Return chains such as 12+34-5= with the answer <<12+34=46>><<46-5=41>>41. No result on the way is below 0."""
    return made(split, SIZES, _chain)


def right(example: Example, written: str) -> bool:
    """Tell whether the number at the end is the one, however it was come to."""
    last = _LAST.search(written)
    return bool(last) and int(last[1]) == example.facts["number"]


def _chain(rng: np.random.Generator) -> tuple[str, Example]:
    total = int(rng.integers(1, LARGEST + 1))
    said, steps = str(total), []
    for _ in range(int(rng.integers(STEPS[0], STEPS[1] + 1))):
        number = int(rng.integers(1, LARGEST + 1))
        sign = "-" if number <= total and rng.random() < 0.5 else "+"
        before, total = total, total + (number if sign == "+" else -number)
        said += f"{sign}{number}"
        steps.append(f"<<{before}{sign}{number}={total}>>")
    return said, Example(f"{said}=", f"{''.join(steps)}{total}", facts={"number": total, "steps": len(steps)})
