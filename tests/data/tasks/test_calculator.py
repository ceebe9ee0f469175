"""The calculator is exact, in two notations, bounded, and takes nothing else."""

import re
from fractions import Fraction

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.data.tasks import calculator

NUMBERS = [7.0, 12.0, 2.5, 100.0]
TREES = st.recursive(
    st.integers(0, 3).map(lambda i: f"number{i}"),
    lambda inner: st.tuples(st.sampled_from("+-*/"), inner, inner).map(" ".join),
    max_leaves=8,
)


@given(TREES)
def test_both_notations_come_to_what_python_says(expression):
    """To the last digit: Python reckons with fractions, too."""
    infix = calculator.infix(expression, [f"{number:g}" for number in NUMBERS])
    hypothesis.assume(len(infix) <= calculator.LONGEST)
    try:
        wanted = eval(re.sub(r"[\d.]+", r"Fraction('\g<0>')", infix))
    except ZeroDivisionError:
        wanted = None
    assert calculator.prefix(expression, NUMBERS) == wanted == calculator.value(infix)


def test_order_of_operands():
    assert calculator.prefix("- number0 number1", [7, 2]) == 5 and calculator.value("7-2-1") == 4
    assert calculator.infix("- number0 - number1 number2", "abc") == "a-(b-c)"
    assert calculator.infix("- - number0 number1 number2", "abc") == "a-b-c"
    assert (
        calculator.value("20%*50") == 10
        and calculator.value("1,200*.5") == 600
        and calculator.value("-(2+.5)*4") == -10
    )


@pytest.mark.parametrize(
    "text",
    ["", "1+", "(1", "1)", "2**9", "9**9**9", "2//3", "__import__('os')", "1e5", "1/0", "1/(2-2)", "1 2", "1,2",
     "\u0663", "9" * 18, "." + "9" * 18, "1" + "+1" * 32, "(" * 9 + "1" + ")" * 9, "-" * 12 + "1", "1%%"],
)  # fmt: skip
def test_what_is_no_expression_has_no_value(text):
    assert calculator.value(text) is None
    assert calculator.prefix(text, [1.0]) is None


def test_annotations():
    """Right to the cent; an empty side is not right."""
    found = calculator.annotations("so <<16-3-4=9>>9 eggs, <<10/3=3.33>>3.33, <<2*3=7>>7, <<=5>>5 and <<4=>>")
    assert [one.right for one in found] == [True, True, False, False, False]


def test_numbers_are_read_and_written():
    assert [calculator.written(value) for value in (18.0, 2.5, 1 / 3, -0.001)] == ["18", "2.5", "0.33", "0"]
    assert [calculator.written(Fraction(n, 3), 6) for n in (2, -10, 9)] == ["0.666667", "-3.333333", "3"]
    assert calculator.value("0.1+0.2") == Fraction("0.3"), "not as floats have it"
    assert calculator.number("$1,234.50") == 1234.5 and calculator.number("\u0663") is calculator.number("1e5") is None
