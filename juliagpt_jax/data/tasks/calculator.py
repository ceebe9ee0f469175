"""A calculator for what a model writes: + - * / and parentheses, and nothing else.

Values are exact fractions, sizes are bounded, and no text of a model is ever run. Verifiers ask it whether an answer
is right; `search/calculator.py` asks it while a model writes.
"""

import operator
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
LONGEST = 64  # characters of an expression
DIGITS = 17  # of a number before its point, and behind it
DEPTH = 8  # signs and parentheses in each other
WORDS = 5 * LONGEST  # characters of an expression in Polish notation, whose numbers have names
ANNOTATION = re.compile(r"<<([^<>=\n]*)=([^<>\n]*)>>")
_SIZE = rf"{{1,{DIGITS}}}"
_NUMBER = re.compile(rf"(?:\d{{1,3}}(?:,\d{{3}}){{1,5}}|\d{_SIZE})(?:\.\d{{0,{DIGITS}}})?%?|\.\d{_SIZE}%?", re.ASCII)


class Wrong(ValueError):
    """Objection to an expression."""


class Annotation(NamedTuple):
    """A reckoning that stands in a text, <<expression=said>>, and its value; None where it has none."""

    expression: str
    said: str
    value: Fraction | None

    @property
    def right(self) -> bool:
        """True where what is said is the value, to the cent that solutions are rounded to."""
        said = number(self.said)
        return said is not None and self.value is not None and close(said, self.value, 0.01)


def number(text: str) -> Fraction | None:
    """Return the number that a text is, with commas between its thousands or a sign of money before it; else None."""
    text = text.strip().lstrip("$").replace(",", "")
    if not re.fullmatch(rf"[-+]?(?:\d{_SIZE}(?:\.\d{{0,{DIGITS}}})?|\.\d{_SIZE})", text, re.ASCII):
        return None
    return Fraction(text)


def written(value: Fraction | float, places: int = 2) -> str:
    """Return a number as solutions have it: 18, 2.5, 0.33; rounded, half to even, where it does not end before."""
    scaled = round(abs(Fraction(value)) * 10**places)
    whole, part = divmod(scaled, 10**places)
    decimals = f"{part:0{places}d}".rstrip("0")
    return ("-" if value < 0 and scaled else "") + str(whole) + (f".{decimals}" if decimals else "")


def close(a: Fraction | float, b: Fraction | float, most: float = 1e-3) -> bool:
    """Tell whether two numbers are one for a verifier: MAWPS and SVAMP count what is nearer than 0.001."""
    return abs(Fraction(a) - Fraction(b)) <= most


def value(expression: str) -> Fraction | None:
    """Return what an expression such as 2*(3.5-20%)/4 comes to; None where it is none, is beyond LONGEST, DIGITS or
    DEPTH, or divides by zero."""
    if len(expression) > LONGEST:
        return None
    try:
        reader = _Reader(expression)
        found = reader.sum(0)
    except (Wrong, ZeroDivisionError):
        return None
    return None if reader.rest else found


def prefix(expression: str, numbers: Sequence[float]) -> Fraction | None:
    """Return what an expression in Polish notation comes to, "- + number0 number1 2.0" being (n0 + n1) - 2; None where
    it is none, or names a number that there is not."""
    stack: list[Fraction] = []
    try:
        for token in reversed(expression[:WORDS].split()):
            if token in SIGNS:
                first, second = stack.pop(), stack.pop()
                stack.append(SIGNS[token](first, second))
            elif named := re.fullmatch(r"number(\d{1,3})", token, re.ASCII):
                stack.append(Fraction(numbers[int(named[1])]))
            else:
                stack.append(_literal(token))
    except (ZeroDivisionError, IndexError, Wrong):
        return None
    return stack[0] if len(stack) == 1 else None


def infix(expression: str, numbers: Sequence[str]) -> str | None:
    """Return an expression in Polish notation with its numbers, and parentheses where it needs them; None where it is
    none."""
    stack: list[tuple[str, int]] = []  # a text, and how tightly it holds together
    try:
        for token in reversed(expression.split()):
            if token in SIGNS:
                (left, own), (right, other) = stack.pop(), stack.pop()
                tight = 1 if token in "+-" else 2
                left = f"({left})" if own < tight else left
                right = f"({right})" if other < tight or (other == tight and token in "-/") else right
                stack.append((f"{left}{token}{right}", tight))
            else:
                named = re.fullmatch(r"number(\d{1,3})", token, re.ASCII)
                stack.append((numbers[int(named[1])] if named else written(_literal(token)), 3))
    except (IndexError, Wrong):
        return None
    return stack[0][0] if len(stack) == 1 else None


def annotations(text: str) -> list[Annotation]:
    """Return every reckoning in a text, in order."""
    return [Annotation(found[1], found[2], value(found[1])) for found in ANNOTATION.finditer(text)]


def _literal(token: str) -> Fraction:
    if not _NUMBER.fullmatch(token):
        raise Wrong(token)
    plain = Fraction(token.rstrip("%").replace(",", ""))
    return plain / 100 if token.endswith("%") else plain


class _Reader:
    """Reads an expression from left to right; `rest` is what is left of it."""

    def __init__(self, expression: str):
        self.rest = expression.strip(" ")

    def _skip(self, count: int = 1) -> None:
        self.rest = self.rest[count:].lstrip(" ")

    def _sign(self, of: str) -> str:
        """Return the next character where it is one of some, and go past it; else ""."""
        found = self.rest[:1]
        if not found or found not in of:
            return ""
        self._skip()
        return found

    def sum(self, depth: int) -> Fraction:
        total = self._product(depth)
        while sign := self._sign("+-"):
            total = SIGNS[sign](total, self._product(depth))
        return total

    def _product(self, depth: int) -> Fraction:
        product = self._factor(depth)
        while sign := self._sign("*/"):
            product = SIGNS[sign](product, self._factor(depth))
        return product

    def _factor(self, depth: int) -> Fraction:
        if depth > DEPTH:
            raise Wrong("too deep")
        if sign := self._sign("+-"):
            inner = self._factor(depth + 1)
            return -inner if sign == "-" else inner
        if self._sign("("):
            inner = self.sum(depth + 1)
            if not self._sign(")"):
                raise Wrong("a parenthesis is open")
            return inner
        found = _NUMBER.match(self.rest)
        if not found:
            raise Wrong("no number")
        self._skip(found.end())
        return _literal(found[0])
