"""Logic: sums and arguments in the schoolroom's words, a part of the question in each row; the last row is the answer.

forty-one                all poets are owls
less seven               some cooks are poets

____________________     ____________________
"""

import collections
import functools
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from juliagpt_jax.data.puzzles.puzzles import FIRST, GENERATED, Given, Pairs, Puzzles, pairs, split
from juliagpt_jax.data.tasks import lessons
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.schoolroom.inflection import ADJECTIVES, NUMBER, number, plural
from juliagpt_jax.schoolroom.lessons import LARGEST, article, spell
from juliagpt_jax.schoolroom.logic import follows, proposition

ROWS = 4  # three premises at most, and the answer
BLANK = "_"
SIGNS = {"and": ("sum", "are"), "less": ("difference", "is"), "times": ("product", "are")}
SIGNS |= {"divided by": ("division", "is")}
_SIGN = "|".join(SIGNS)
_WRITTEN = {"A": "all {} are {}", "E": "no {} are {}", "I": "some {} are {}", "O": "some {} are not {}"}
_WRITTEN |= {"s": "{} is {}", "t": "{} is not {}"}

Question = tuple[str, ...]  # its rows


class Logic(Puzzles):
    """Symbols are letters, the space, the hyphen and "_", a blank; `puzzle.side` is the characters of a row.

    Half of the generated ones are sums, differences, products and divisions, half have two or three premises. An
    argument is the same with its premises in another order, a sum with its numbers exchanged: these are its forms, and
    no test puzzle is one of a training puzzle's. What is verified is more than the one answer that a model learns: any
    conclusion that needs all premises is right.
    """

    symbols: ClassVar[str] = " -_abcdefghijklmnopqrstuvwxyz"
    hardness_is: ClassVar[str] = "premises, 0 of a sum"

    @property
    def shape(self) -> tuple[int, int]:
        return ROWS, self.settings.puzzle.side

    def check(self, files: bool = True) -> None:
        if self.settings.puzzle.side < 32:
            raise UserError(f"config.data.puzzle.side: rows of 32 to 64 characters, not {self.settings.puzzle.side}")
        if files and self.settings.path != GENERATED and not Path(self.settings.path).is_file():
            raise UserError(f"{self.settings.path}: no such file")

    def load(self) -> None:
        own, rng, path = self.settings.puzzle, np.random.default_rng(FIRST), self.settings.path
        many = own.train + own.test
        if path == GENERATED:
            found = self._generate(rng, many)
        else:
            found = {}
            for given in self.read(Path(path)):
                if reason := self.refuse(given.puzzle):
                    raise UserError(f"{given.name}: {reason}")
                question = self.question(given.puzzle)
                found.setdefault(min(orders(question)), question)
            split(len(found), own, path)
        questions = list(found.values())
        whole = self._pairs([questions[i] for i in rng.permutation(len(questions))[:many]])
        self.train, self.test = whole.take(slice(own.train)), whole.take(slice(own.train, None))

    def _generate(self, rng: np.random.Generator, many: int) -> dict[Question, Question]:
        """Return so many questions by what is the same of all their forms."""
        found: dict[Question, Question] = {}
        for tried in range(50 * many):
            draw = lessons.draw_argument if tried % 2 else lessons.draw_sum
            question, _ = parse(draw(rng)[1].prompt)
            if all(answer(form) and self._fits(form) for form in orders(question)):
                found.setdefault(min(orders(question)), question)
            if len(found) == many:
                return found
        raise UserError(
            f"config.data.puzzle: {len(found):,} of {many:,} different questions were found whose rows have up to "
            f"{self.shape[1]} characters; a larger side has more"
        )

    def vary(self, rng: np.random.Generator, drawn: Pairs) -> Pairs:
        """Put premises into another order, and exchange the numbers of a sum or product."""
        forms = [orders(self.question(tokens)) for tokens in drawn.inputs]
        picked = rng.integers(np.array([len(some) for some in forms]))
        return self._pairs([some[i] for some, i in zip(forms, picked, strict=True)])._replace(ids=drawn.ids)

    def _pairs(self, questions: Sequence[Question]) -> Pairs:
        laid = lambda said: np.array([self._lay(question, said(question)) for question in questions])
        return pairs(laid(lambda question: BLANK * self.shape[1]), laid(answer))

    def _lay(self, question: Question, said: str = "") -> np.ndarray:
        """Return the tokens (L,) of a question, and of an answer in the last row; blanks where there is none."""
        rows, wide = (*question, *[""] * (ROWS - 1 - len(question))), self.shape[1]
        text = "".join(row.ljust(wide) for row in (*rows, said or BLANK * wide))
        return np.array([self.symbols.index(c) for c in text], np.int32)

    def _fits(self, question: Question) -> bool:
        return max(map(len, (*question, answer(question)))) <= self.shape[1]

    def rows(self, tokens: np.ndarray) -> list[str]:
        """Return the rows of a grid as text."""
        return ["".join(self.symbols[t] for t in row).rstrip() for row in tokens.reshape(self.shape)]

    def question(self, tokens: np.ndarray) -> Question:
        """Return the question of a puzzle."""
        return tuple(row for row in self.rows(tokens)[:-1] if row)

    def read(self, path: Path) -> list[Given]:
        """Read a puzzle a line: "forty-one less seven is", "all poets are owls; some cooks are poets; therefore". An
        answer may stand behind it, which must be right."""
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a readable text: {error}") from error
        found = []
        for at, line in enumerate(lines, 1):
            if line.strip() and not line.startswith("#"):
                found.append(Given(f"{path}:{at}", self._read(line, f"{path}:{at}")))
        if not found:
            raise UserError(f"{path}: no puzzle in it")
        return found

    def _read(self, line: str, where: str) -> np.ndarray:
        question, said = parse(line)
        if not 2 <= len(question) < ROWS:
            raise UserError(
                f'{where}: neither a sum, "forty-one less seven is", nor two or three premises, "all poets are owls; '
                f'some cooks are poets; therefore", in small letters'
            )
        bad = set("".join((*question, said))) - set(self.symbols)
        if bad:
            raise UserError(f"{where}: {min(bad)!r} is no small letter, space or hyphen")
        wide = self.shape[1]
        if not self._fits(question) or len(said) > wide:
            longest = max(map(len, (*question, answer(question), said)))
            raise UserError(f"{where}: a row of {longest} characters, and this model's have {wide}")
        if said and (reason := self.wrong(self._lay(question), self._lay(question, said))):
            raise UserError(f"{where}: the answer beside it is none: {reason}")
        return self._lay(question)

    def refuse(self, puzzle: np.ndarray) -> str:
        question = self.question(puzzle)
        if answer(question):
            return ""
        return f"no whole number from 1 to {LARGEST:,} is the answer" if summed(question) else NOTHING

    def wrong(self, puzzle: np.ndarray, answer: np.ndarray) -> str:
        """Return why an answer is none, as the schoolroom's examiner reads it, who computes anew."""
        *asked, _ = self.rows(puzzle)
        *rows, said = self.rows(answer)
        if rows != asked:
            return "the question was changed"
        if BLANK in said:
            return f"{said.count(BLANK)} places are blank"
        question = self.question(puzzle)
        if found := summed(question):
            kind, verb = SIGNS[found[1]]
            given = Example(f"{' '.join(question)} {verb} ", "", facts={"kind": kind})
            return "" if lessons.right_sum(given, said) else f"{said!r} is another number, or none"
        right = lessons.right_conclusion(Example("", "", facts={"premises": question}), said)
        return "" if right else f"{said!r} does not follow from all premises"

    def hardness(self, inputs: np.ndarray) -> np.ndarray:
        questions = map(self.question, inputs)
        return np.array([0 if summed(question) else len(question) for question in questions])

    def draw(self, tokens: np.ndarray) -> str:
        return "\n".join(row.ljust(self.shape[1]) for row in self.rows(tokens))

    def text(self, tokens: np.ndarray) -> str:
        question, said = self.question(tokens), self.rows(tokens)[-1]
        if found := summed(question):
            return f"{' '.join(question)} {SIGNS[found[1]][1]} {said}"
        return f"{'; '.join(question)}; therefore {said}"


NOTHING = "nothing follows from all of its premises that does not follow from fewer"


def parse(line: str) -> tuple[Question, str]:
    """Return the question that a line asks, and the answer that stands behind it, "" where none does; no rows where it
    asks nothing."""
    line = line.strip(" .")
    premises, therefore, said = line.partition("therefore")
    if therefore:
        return tuple(part.strip() for part in premises.split(";") if part.strip()), said.strip()
    match = re.fullmatch(rf"({NUMBER}) ({_SIGN}) ({NUMBER}) (?:are|is)(?: (.+))?", line)
    return ((match[1], f"{match[2]} {match[3]}"), match[4] or "") if match else ((), "")


def summed(question: Question) -> tuple[int, str, int] | None:
    """Return the numbers of a question, and the sign between them; None of an argument."""
    sign = re.fullmatch(rf"({_SIGN}) ({NUMBER})", question[-1]) if len(question) == 2 else None
    if sign is None or not re.fullmatch(NUMBER, question[0]):
        return None
    return number(question[0]), sign[1], number(sign[2])


@functools.lru_cache(maxsize=2**16)
def orders(question: Question) -> tuple[Question, ...]:
    """Return all forms of a question, itself first."""
    found = summed(question)
    if found is None:
        return tuple(itertools.permutations(question))
    a, sign, b = found
    return (question, (spell(b), f"{sign} {spell(a)}")) if sign in ("and", "times") else (question,)


@functools.lru_cache(maxsize=2**16)
def answer(question: Question) -> str:
    """Return the answer to a question, "" where it has none."""
    found = summed(question)
    if found is None:
        return conclusion(question)
    a, sign, b = found
    result = {"and": a + b, "less": a - b, "times": a * b, "divided by": 0 if a % b else a // b}[sign]
    return spell(result) if 1 <= result <= LARGEST else ""


def conclusion(premises: Question) -> str:
    """Return the conclusion that needs all premises, "" where there is none. It joins the two terms that only one
    premise has. Where it may be turned round, as "no owls are cooks" may, its subject is that of the last premise."""
    said = [proposition(premise) for premise in premises]
    known = [one for one in said if one]
    counts = collections.Counter(term for _, *both in known for term in both)
    ends = [term for _, *both in reversed(known) for term in both if counts[term] == 1]
    if len(known) < max(2, len(said)) or len(ends) != 2:
        return ""
    names = {subject for form, subject, _ in known if form in "st"}
    for subject, predicate in (ends, ends[::-1]):
        if subject.split()[-1] in ADJECTIVES or predicate in names:
            continue
        for form in "st" if subject in names else "AEIO":
            wanted = form, subject, predicate
            fewer = (known[:i] + known[i + 1 :] for i in range(len(known)))
            if follows(known, wanted) and not any(follows(some, wanted) for some in fewer):
                words = (subject if subject in names else _named(subject, "AEIO")), _named(predicate, form)
                return _WRITTEN[form].format(*words)
    return ""


def _named(term: str, form: str) -> str:
    """Return a term as a proposition of such a form has it: "owls", "an owl", "honest"."""
    *before, noun = term.split()
    if noun in ADJECTIVES:
        return term
    return article(term) if form in "st" else " ".join([*before, plural(noun)])
