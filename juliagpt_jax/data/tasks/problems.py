"""Word problems: GSM8K with worked solutions (Cobbe et al. 2021), MAWPS and SVAMP with an equation each
(Koncel-Kedziorski et al. 2016; Patel et al. 2021).

An equation is what the model writes; the calculator reckons. MAWPS and SVAMP come in two forms. In the published one
numbers are names in the question, and the equation is in Polish notation: "* number0 number1". In the other the
question has its numbers, and the answer is a reckoning as in GSM8K: "<<56*9=504>>504".
"""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from juliagpt_jax.data.tasks import calculator, files
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.ground.rows import Bad

GSM8K = "https://github.com/openai/grade-school-math; " + files.PREPARE.format("gsm8k")
MAWPS = "https://github.com/arkilpatel/SVAMP; " + files.PREPARE.format("mawps")
SVAMP = "https://github.com/arkilpatel/SVAMP; " + files.PREPARE.format("svamp")
FINAL = re.compile(r"####\s*(\S+)\s*$", re.MULTILINE)
_LAST = re.compile(r"-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")


def gsm8k(split: str, path: str | None) -> list[Example]:
    """Return problems with solutions that end in "#### 18". One in 20 of train.jsonl is the dev part."""

    def make(row: files.Row) -> Example | None:
        question, solution = files.text(row, "question"), files.text(row, "answer")
        found = FINAL.search(solution)
        number = calculator.number(found[1]) if found else None
        if number is None:
            raise Bad('"answer" does not end in #### and a number')
        if split != "test" and not files.held_out(split, question):
            return None
        solution = re.sub(r"\n\s*\n", "\n", solution)  # a blank line ends an answer
        facts = {"number": float(number), "question": question}
        return Example(f"Question: {question}\nAnswer:", f" {solution}", facts=facts)

    names = {"train": ["train.jsonl"], "dev": ["train.jsonl"], "test": ["test.jsonl"]}
    return files.examples(files.find(split, path, names, GSM8K), make)


def mawps(split: str, path: str | None) -> list[Example]:
    """Return the first fold of MAWPS in the published form."""
    return _equations(split, path, _MAWPS, MAWPS, _named)


def mawps_blind(split: str, path: str | None) -> list[Example]:
    """Return `mawps` without the question at its end: what is still solved then was never understood."""
    return _equations(split, path, _MAWPS, MAWPS, lambda row: _named(row, "Body"))


def mawps_text(split: str, path: str | None) -> list[Example]:
    """Return `mawps` with numbers in the question and a reckoning as the answer."""
    return _equations(split, path, _MAWPS, MAWPS, _reckoned)


def svamp(split: str, path: str | None) -> list[Example]:
    """Return SVAMP in the published form, to be trained for on MAWPS and ASDiv-A."""
    return _equations(split, path, _SVAMP, SVAMP, _named)


def svamp_text(split: str, path: str | None) -> list[Example]:
    """Return `svamp` with numbers in the question and a reckoning as the answer."""
    return _equations(split, path, _SVAMP, SVAMP, _reckoned)


def right_equation(example: Example, written: str) -> bool:
    """Tell whether an equation in Polish notation comes to the number."""
    found = calculator.prefix(written, example.facts["numbers"])
    return found is not None and calculator.close(found, example.facts["number"])


def right_number(example: Example, written: str) -> bool:
    """Tell whether the final number, to a cent, is the one: the one behind ####, or else the last that is written."""
    found = final(written)
    return found is not None and calculator.close(found, example.facts["number"], 0.01)


def final(written: str) -> Fraction | None:
    """Return the number that a solution ends in; None where it has none."""
    marked = FINAL.search(written)
    said = marked[1] if marked else next(reversed(_LAST.findall(written)), "")
    return calculator.number(said.replace("$", "").rstrip("."))


_MAWPS = {"train": ["fold0_train.csv"], "dev": ["fold0_train.csv"], "test": ["fold0_dev.csv"]}
_TRAIN = "mawps-asdiv-a_svamp_train.csv"
_SVAMP = {"train": [_TRAIN], "dev": [_TRAIN], "test": ["mawps-asdiv-a_svamp_dev.csv"]}


def _equations(split: str, path: str | None, names: Mapping[str, Sequence[str]], source: str, form) -> list[Example]:
    """Read rows of these sets; their own dev part is what is tested on, so one in 20 of training is the dev part.

    Some equations of the sets do not come to their answers (8 of 3,138, 1 of 384): the answer counts.
    """

    def make(row: files.Row) -> Example | None:
        return form(row) if split == "test" or files.held_out(split, files.text(row, "Question")) else None

    return files.examples(files.find(split, path, names, source), make)


def _known(row: files.Row) -> tuple[list[str], str, dict]:
    """Return the numbers of a row as they are written, its equation, and facts."""
    numbers = files.text(row, "Numbers").split()
    values = [calculator.number(number) for number in numbers]
    equation = " ".join(files.text(row, "Equation").split())
    known = [float(value) for value in values if value is not None]
    if len(known) < len(values) or calculator.prefix(equation, known) is None:
        raise Bad(f'"Equation" is none in Polish notation over "Numbers": {equation[:60]!r}')
    facts = {"number": files.number(row, "Answer"), "numbers": tuple(known), "equation": equation}
    return [calculator.written(value, 4) for value in known], equation, facts


def _named(row: files.Row, field: str = "Question") -> Example:
    _, equation, facts = _known(row)
    return Example(f"{files.text(row, field, empty=field == 'Body')}\n", equation, facts=facts)


def _reckoned(row: files.Row) -> Example:
    numbers, equation, facts = _known(row)
    fill = lambda found: numbers[int(found[1])] if int(found[1]) < len(numbers) else found[0]
    question = re.sub(r"\bnumber(\d{1,3})\b", fill, files.text(row, "Question"))
    reckoning = calculator.infix(equation, numbers)
    answer = calculator.written(facts["number"])
    facts["question"] = question
    return Example(f"Question: {question}\nAnswer:", f" <<{reckoning}={answer}>>{answer}", facts=facts)
