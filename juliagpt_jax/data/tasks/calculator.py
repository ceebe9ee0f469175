"""A calculator for what a model writes: + - * / and brackets, and nothing else. No text of a model is ever run."""

import math
import operator
import re
from collections.abc import Sequence
from typing import NamedTuple

SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
LONGEST = 200  # characters of an expression
ANNOTATION = re.compile(r"<<([^<>=\n]*)=([^<>\n]*)>>")
_TOKEN = re.compile(r"\s*([-+*/()]|\d+(?:\.\d+)?%?|\.\d+)")


class Annotation(NamedTuple):
    """A reckoning that stands in a text, <<expression=said>>, and its value; None where it has none."""

    expression: str
    said: str
    value: float | None

    @property
    def right(self) -> bool:
        """True where what is said is the value, to the cent that solutions are rounded to."""
        said = number(self.said)
        return said is not None and self.value is not None and close(said, self.value, 0.01)


def number(text: str) -> float | None:
    """Return the number that a text is, with commas between its thousands or a sign of money before it; else None."""
    text = text.strip().lstrip("$").replace(",", "")
    if not re.fullmatch(r"[-+]?(?:\d{1,17}(?:\.\d{0,17})?|\.\d{1,17})", text):
        return None
    return float(text)


def written(value: float, places: int = 2) -> str:
    """Return a number as solutions have it: 18, 2.5, 0.33."""
    return f"{value:.0f}" if close(value, round(value), 0.5 * 0.1**places) else f"{value:.{places}f}".rstrip("0")


def close(a: float, b: float, most: float = 1e-3) -> bool:
    """Tell whether two numbers are one for a verifier: MAWPS and SVAMP count what is nearer than 0.001."""
    return math.isfinite(a) and math.isfinite(b) and abs(a - b) <= most


def value(expression: str) -> float | None:
    """Return what an expression such as 2*(3+4) comes to; None where it is none, or has no finite value."""
    if len(expression) > LONGEST:
        return None
    tokens, at = [], 0
    expression = expression.replace(",", "").rstrip()
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        if not found:
            return None
        tokens.append(found[1])
        at = found.end()
    try:
        result, rest = _sum(tokens)
    except (ZeroDivisionError, OverflowError, IndexError, ValueError):
        return None
    return result if not rest and math.isfinite(result) else None


def prefix(expression: str, numbers: Sequence[float]) -> float | None:
    """Return what an expression in Polish notation comes to, "- + number0 number1 2.0" being (n0 + n1) - 2; None where
    it is none, or names a number that there is not."""
    stack: list[float] = []
    try:
        for token in reversed(expression[: 5 * LONGEST].split()):
            if token in SIGNS:
                first, second = stack.pop(), stack.pop()
                stack.append(SIGNS[token](first, second))
            elif named := re.fullmatch(r"number(\d{1,3})", token):
                stack.append(numbers[int(named[1])])
            else:
                stack.append(_number(token))
    except (ZeroDivisionError, OverflowError, IndexError, ValueError):
        return None
    return stack[0] if len(stack) == 1 and math.isfinite(stack[0]) else None


def infix(expression: str, numbers: Sequence[str]) -> str | None:
    """Return an expression in Polish notation with its numbers, and brackets where it needs them; None where it is
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
                named = re.fullmatch(r"number(\d{1,3})", token)
                stack.append((numbers[int(named[1])] if named else written(_number(token)), 3))
    except (IndexError, ValueError):
        return None
    return stack[0][0] if len(stack) == 1 else None


def annotations(text: str) -> list[Annotation]:
    """Return every reckoning in a text, in order."""
    return [Annotation(found[1], found[2], value(found[1])) for found in ANNOTATION.finditer(text)]


def _number(token: str) -> float:
    if not re.fullmatch(r"\d{1,17}(?:\.\d{1,17})?%?|\.\d{1,17}", token):
        raise ValueError(token)
    return float(token[:-1]) / 100 if token.endswith("%") else float(token)


def _sum(tokens: list[str], depth: int = 0) -> tuple[float, list[str]]:
    left, tokens = _product(tokens, depth)
    while tokens and tokens[0] in "+-":
        right, rest = _product(tokens[1:], depth)
        left, tokens = SIGNS[tokens[0]](left, right), rest
    return left, tokens


def _product(tokens: list[str], depth: int) -> tuple[float, list[str]]:
    left, tokens = _atom(tokens, depth)
    while tokens and tokens[0] in "*/":
        right, rest = _atom(tokens[1:], depth)
        left, tokens = SIGNS[tokens[0]](left, right), rest
    return left, tokens


def _atom(tokens: list[str], depth: int) -> tuple[float, list[str]]:
    first, rest = tokens[0], tokens[1:]
    if depth > 20:
        raise ValueError("too deep")
    if first in "+-":
        inner, rest = _atom(rest, depth + 1)
        return (-inner if first == "-" else inner), rest
    if first == "(":
        inner, rest = _sum(rest, depth + 1)
        if rest[0] != ")":
            raise ValueError("a bracket is open")
        return inner, rest[1:]
    return _number(first), rest
