"""Tasks in the schoolroom's words: sums, which its examiner marks."""

import re

import numpy as np

from juliagpt_jax.data.tasks.task import Example, made
from juliagpt_jax.schoolroom.examiner import examine
from juliagpt_jax.schoolroom.inflection import NUMBER
from juliagpt_jax.schoolroom.lessons import spell

SIZES = {"train": 10_000, "dev": 500, "test": 1_000}


def sums(split: str, path: str | None = None) -> list[Example]:
    """Return sums, differences, products and divisions such as "forty-one less seven is thirty-four"."""
    return made(split, SIZES, _sum)


def right_sum(example: Example, written: str) -> bool:
    """Tell whether the examiner finds that the number at the beginning of what is written is the one. What follows
    behind a sign of punctuation does not matter."""
    number = re.match(rf"({NUMBER})(?=$|[.,;:?!\"'\n])", written.strip())
    if not number:
        return False
    claims = [claim for claim in examine(example.prompt + number[1]) if claim.kind == example.facts["kind"]]
    return bool(claims) and all(claim.true and claim.text == example.prompt + number[1] for claim in claims)


def _sum(rng: np.random.Generator) -> tuple[str, Example]:
    kind = rng.choice(["sum", "difference", "product", "division"]).item()
    if kind in ("sum", "difference"):
        less, more = sorted(rng.integers(1, 501, size=2).tolist())
        a, b, number = (less, more, less + more) if kind == "sum" else (more + less, less, more)
        if kind == "sum" and rng.random() < 0.5:
            a, b = b, a
    else:
        small, other = rng.integers(2, 31, size=2).tolist()
        a, b, number = (small, other, small * other) if kind == "product" else (small * other, small, other)
    says = {"sum": "and {} are", "difference": "less {} is", "product": "times {} are", "division": "divided by {} is"}
    prompt = f"{spell(a)} {says[kind].format(spell(b))} "
    told = f"{kind} {sorted((a, b))}"  # 3 and 5 are no other sum than 5 and 3
    return told, Example(prompt, spell(number), facts={"kind": kind, "number": number, "operands": (a, b)})
