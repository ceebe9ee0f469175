"""Tasks in the schoolroom's words, which its examiner marks: sums, and what follows from premises."""

import re

import numpy as np

from juliagpt_jax.data.tasks.task import Example, made
from juliagpt_jax.schoolroom.examiner import examine
from juliagpt_jax.schoolroom.inflection import NUMBER
from juliagpt_jax.schoolroom.lessons import LEXICONS, article, spell
from juliagpt_jax.schoolroom.logic import arguments

SIZES = {"train": 10_000, "dev": 500, "test": 1_000}

# Premises and the conclusion that needs them all; X, Y, Z and W are kinds, x is one of them, P an adjective, N a name.
# By their medieval names: barbara, celarent, darii, ferio, cesare, camestres, festino, baroco, datisi, bocardo; then of
# one person, and a chain of three.
ARGUMENTS = (
    ("all Y are Z; all X are Y", "all X are Z"),
    ("no Y are Z; all X are Y", "no X are Z"),
    ("all Y are P; some X are Y", "some X are P"),
    ("no Y are Z; some X are Y", "some X are not Z"),
    ("no Z are P; all X are P", "no X are Z"),
    ("all Z are Y; no X are Y", "no X are Z"),
    ("no Z are P; some X are P", "some X are not Z"),
    ("all Z are Y; some X are not Y", "some X are not Z"),
    ("all Y are P; some Y are X", "some X are P"),
    ("some Y are not Z; all Y are X", "some X are not Z"),
    ("all X are P; N is x", "N is P"),
    ("no X are P; N is P", "N is not x"),
    ("all W are X; all X are Y; all Y are Z", "all W are Z"),
)


def sums(split: str, path: str | None = None) -> list[Example]:
    """Return sums, differences, products and divisions such as "forty-one less seven is thirty-four"."""
    return made(split, SIZES, draw_sum)


def right_sum(example: Example, written: str) -> bool:
    """Tell whether the examiner finds that the number at the beginning of what is written is the one. What follows
    behind a sign of punctuation does not matter."""
    number = re.match(rf"({NUMBER})(?=$|[.,;:?!\"'\n])", written.strip())
    if not number:
        return False
    claims = [claim for claim in examine(example.prompt + number[1]) if claim.kind == example.facts["kind"]]
    return bool(claims) and all(claim.true and claim.text == example.prompt + number[1] for claim in claims)


def syllogisms(split: str, path: str | None = None) -> list[Example]:
    """Return arguments such as "all poets are owls; some cooks are poets; therefore some cooks are owls"."""
    return made(split, SIZES, draw_argument)


def right_conclusion(example: Example, written: str) -> bool:
    """Tell whether the examiner finds that the sentence that is written first follows from all premises together. One
    that follows from fewer, as a premise said again does, is no conclusion from them."""
    clause = re.split(r"[.,;:?!\"()\n]", written.strip())[0].strip()
    premises = example.facts["premises"]
    fewer = [premises[:i] + premises[i + 1 :] for i in range(len(premises))]
    return "that" not in clause.split() and _follows(premises, clause) and not any(_follows(p, clause) for p in fewer)


def _follows(premises: tuple[str, ...], clause: str) -> bool:
    found = list(arguments(f"{'; '.join(premises)}; therefore {clause}"))
    return bool(clause and found) and found[-1][2] and found[-1][1] == f"therefore {clause}"


def draw_sum(rng: np.random.Generator) -> tuple[str, Example]:
    """Draw a sum, difference, product or division, and what it is told apart by."""
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


def draw_argument(rng: np.random.Generator) -> tuple[str, Example]:
    """Draw premises with their conclusion, and what they are told apart by."""
    kinds, adjectives = LEXICONS["kind"], LEXICONS["adj"]["sg"]
    chosen = rng.choice(len(kinds["sg"]), 4, replace=False)
    terms = {letter: kinds["pl"][i] for letter, i in zip("WXYZ", chosen, strict=True)}
    terms |= {letter.lower(): article(kinds["sg"][i]) for letter, i in zip("WXYZ", chosen, strict=True)}
    terms |= {"P": rng.choice(adjectives).item(), "N": rng.choice(LEXICONS["name"]["sg"]).item()}
    form = int(rng.integers(len(ARGUMENTS)))
    fill = lambda text: re.sub(r"\b[WXYZwxyzPN]\b", lambda found: terms[found[0]], text)
    given, conclusion = map(fill, ARGUMENTS[form])
    facts = {"premises": tuple(given.split("; ")), "form": form}
    return given, Example(f"{given}; therefore ", conclusion, facts=facts)
