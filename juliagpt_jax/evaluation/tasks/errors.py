"""The kinds of errors that answers have: one function a kind of task puts an answer into categories.

An answer may be in several categories, a right one too: the share of each among all and among the wrong answers tells
what an error goes with.
"""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from juliagpt_jax.data.tasks import calculator, problems
from juliagpt_jax.data.tasks.lessons import right_conclusion
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.schoolroom.inflection import NUMBER, number

NEGATIONS = frozenset("no not n't never none nobody nothing neither nor without hardly barely cannot lacks".split())
CONTRASTS = frozenset("but although though however yet despite while".split())
_DIGITS = re.compile(r"\d[\d,]*(?:\.\d+)?")
_NAME = re.compile(r"#?\b[A-Z][\w'-]+#?")
_COMMON = frozenset(
    "The A An He She They It His Her Their In On At And But So I We You This That There Patient".split()
)


def of_sentiment(example: Example, said: str) -> list[str]:
    """Categories of a review: negation, contrast, length, and which way a wrong answer went."""
    words = example.facts["sentence"].split()
    found = ["with a negation" if NEGATIONS & set(words) else "without a negation"]
    found += ["with a contrast (but, though)"] if CONTRASTS & set(words) else []
    found += [f"{'up to 10' if len(words) <= 10 else '11 to 20' if len(words) <= 20 else 'more than 20'} words"]
    if said != example.answer:
        found.append(f"{example.answer.strip()} taken for {said.strip()}")
        if NEGATIONS & set(words):
            found.append("flipped with a negation in it")
    return found


def of_addition(example: Example, said: str) -> list[str]:
    """Categories of a sum: carries in the task, and which digits of the answer are wrong."""
    a, b = example.facts["operands"]
    found = [f"{_carries(a, b)} carries"]
    own, wanted = said.split()[-1] if said.split() else "", example.answer.split()[-1]
    if not re.fullmatch(r"\d+", own):
        return [*found, "no number"]
    if own == wanted:
        return [*found, "a wrong step before a right sum"] if said.strip() != example.answer else found
    if len(own) != len(wanted):
        return [*found, "too few or too many digits"]
    wrong = [i for i, (x, y) in enumerate(zip(own, wanted, strict=True)) if x != y]
    found += [f"digit {i + 1} as written is wrong" for i in wrong]
    if len(wrong) == 1:
        gap = (int(own[wrong[0]]) - int(wanted[wrong[0]])) % 10
        found.append("slip: one digit off by one" if gap in (1, 9) else "slip: one digit off by more")
    if " " in example.answer.strip() and said.split()[:-1] == example.answer.split()[:-1]:
        found.append("right steps, wrong sum")
    return found


def of_chains(example: Example, said: str) -> list[str]:
    """Categories of chained sums: their length, and where the first mistake is."""
    found = [f"{example.facts['steps']} steps"]
    steps, wanted = calculator.annotations(said), calculator.annotations(example.answer)
    for own, right in zip(steps, wanted, strict=False):
        if own.expression != right.expression:
            return [*found, "another step than the chain's"]
        if not own.right:
            return [*found, "slip: a reckoning is wrong"]
    if len(steps) != len(wanted):
        return [*found, "too few or too many steps"]
    return found if said.strip() == example.answer else [*found, "right steps, another number at the end"]


def of_sums(example: Example, said: str) -> list[str]:
    """Categories of the schoolroom's sums: the kind, and how far off the number is."""
    kind, wanted = example.facts["kind"], example.facts["number"]
    found = [kind]
    spelled = re.match(NUMBER, said.strip())
    if not spelled:
        return [*found, "no number"]
    gap = abs(number(spelled[0]) - wanted)
    if gap == 0:
        return found
    if number(spelled[0]) in example.facts["operands"]:
        return [*found, "an operand said again"]
    near = {1: "slip: off by one", 10: "slip: off by ten", 100: "slip: off by a hundred"}
    return [*found, near.get(gap, "off by more")]


def of_syllogisms(example: Example, said: str) -> list[str]:
    """Categories of conclusions: the form, terms from nowhere, premises said again."""
    premises = example.facts["premises"]
    found = [f"form {example.facts['form'] + 1}: {_form(example)}"]
    clause = re.split(r"[.,;:?!\"()\n]", said.strip())[0].strip()
    if right_conclusion(example, said):
        return found
    words = set(" ".join(premises).split()) | {"all", "no", "some", "are", "is", "not", "a", "an"}
    stems = {word.rstrip("s") for word in words}
    if not clause:
        return [*found, "nothing said"]
    if any(word.rstrip("s") not in stems for word in clause.split()):
        return [*found, "a term that no premise has"]
    if clause in premises:
        return [*found, "a premise said again"]
    return [*found, "broken chain: it does not follow"]


def of_problems(example: Example, said: str) -> list[str]:
    """Categories of worked solutions: their end, reckonings that are wrong, numbers from nowhere, missing steps."""
    steps, wanted = calculator.annotations(said), calculator.annotations(example.answer)
    found = [f"{min(len(wanted), 6)}{' or more' if len(wanted) >= 6 else ''} steps in the solution"]
    final = problems.final(said)
    if final is None:
        return [*found, "no number at its end"]
    if "####" in example.answer and not problems.FINAL.search(said):
        found.append("no #### before the final number")
    if any(not step.right for step in steps):
        found.append("slip: a reckoning is wrong")
    if calculator.close(final, example.facts["number"], 0.01):
        return found
    known = _numbers(example.facts["question"])
    if final in known:
        found.append("a number of the question as the answer")
    for step in steps:
        if any(number not in known and number not in _SMALL for number in _numbers(step.expression)):
            found.append("a number from nowhere in a reckoning")
            break
        known |= _numbers(step.said)
    if steps and len(steps) < len(wanted):
        found.append("broken chain: fewer steps than the solution")
    if steps and all(step.right for step in steps) and len(steps) >= len(wanted):
        found.append("right reckonings of the wrong thing")
    return found


def of_equations(example: Example, said: str) -> list[str]:
    """Categories of equations over names: malformed, other operations, other quantities, or in another order."""
    numbers, wanted = example.facts["numbers"], example.facts["equation"]
    sign = lambda text: sorted(token for token in text.split() if token in calculator.SIGNS)
    names = lambda text: sorted(token for token in text.split() if token not in calculator.SIGNS)
    found = [f"{len(sign(wanted))} operation{'s' if len(sign(wanted)) > 1 else ''}"]
    value = calculator.prefix(said, numbers)
    if value is None:
        return [*found, "not an equation over these numbers"]
    if calculator.close(value, example.facts["number"]):
        return found
    if len(sign(said)) != len(sign(wanted)):
        return [*found, "too few operations" if len(sign(said)) < len(sign(wanted)) else "too many operations"]
    if names(said) != names(wanted):
        return [*found, "other quantities"]
    return [*found, "other operations" if sign(said) != sign(wanted) else "the right parts in another order"]


def of_summaries(example: Example, said: str) -> list[str]:
    """Categories of summaries: names that are invented or missing, sentences copied, length."""
    dialogue, reference = example.facts["dialogue"], example.facts["references"][0]
    if not said.strip():
        return ["nothing said"]
    known = set(re.findall(r"[\w'#-]+", dialogue.lower()))
    invented = [name for name in _names(said) if name.lower().strip("#") not in known and name.lower() not in known]
    found = ["an invented name: in the summary and not in the dialogue"] if invented else []
    missing = [name for name in _names(reference) if name not in said]
    found += ["a name of the reference is missing"] if missing else []
    copied = _longest_copy(said.split(), dialogue.split())
    found += ["8 words or more copied in a row"] if copied >= 8 else []
    share = len(said.split()) / max(1, len(reference.split()))
    found += ["less than half as long as the reference"] if share < 0.5 else []
    found += ["more than twice as long as the reference"] if share > 2 else []
    words = said.split()
    triples = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    found += ["it repeats itself"] if len(triples) >= 10 and len(set(triples)) < 0.7 * len(triples) else []
    return found or ["none of these"]


def of_last_words(example: Example, said: str) -> list[str]:
    """Categories of last words: was it said before?"""
    found = ["the word stands in the passage" if example.facts["seen"] else "the word is new"]
    first = (said.split() or [""])[0].strip(".,;:!?\"'")
    if first and first != example.answer.strip():
        copied = first.lower() in set(re.findall(r"[\w'-]+", example.prompt.lower()))
        found.append("another word of the passage" if copied else "a word that is not in the passage")
    return found


def _carries(a: int, b: int) -> int:
    count, carry = 0, 0
    while a or b:
        carry = (a % 10 + b % 10 + carry) // 10
        count, a, b = count + carry, a // 10, b // 10
    return count


def _form(example: Example) -> str:
    signs = {"all": "all", "no": "no", "some": "some"}
    return ", ".join(
        signs.get(premise.split()[0], "one") + (" not" if " not " in premise else "")
        for premise in example.facts["premises"]
    )


_SMALL = set(map(Fraction, "0 1 2 3 4 7 10 12 24 30 52 60 100 365 0.5 0.01".split()))  # nobody has to say these


def _numbers(text: str) -> set[Fraction | None]:
    return {calculator.number(found) for found in _DIGITS.findall(text)}


def _names(text: str) -> list[str]:
    """Return the words in capitals of a text, but for common ones; those that begin a sentence too."""
    return [name.removesuffix("'s") for name in _NAME.findall(text) if name not in _COMMON]


def _longest_copy(words: Sequence[str], source: Sequence[str]) -> int:
    """Return the length of the longest run of words that two texts share."""
    best, row = 0, [0] * (len(source) + 1)
    for word in words:
        row = [0, *(row[i] + 1 if word == other else 0 for i, other in enumerate(source))]
        best = max(best, *row)
    return best


# `CATEGORIES[task](example, what was said)`.
CATEGORIES: dict[str, Callable[[Example, str], list[str]]] = {
    "sst2": of_sentiment,
    "sst2_phrases": of_sentiment,
    "addition": of_addition,
    "addition_reversed": of_addition,
    "addition_scratchpad": of_addition,
    "chains": of_chains,
    "sums": of_sums,
    "syllogisms": of_syllogisms,
    "gsm8k": of_problems,
    "mawps_text": of_problems,
    "svamp_text": of_problems,
    "mawps": of_equations,
    "mawps_blind": of_equations,
    "svamp": of_equations,
    "samsum": of_summaries,
    "dialogsum": of_summaries,
    "mts_dialog": of_summaries,
    "last_words": of_last_words,
}
