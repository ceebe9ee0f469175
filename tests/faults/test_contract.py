"""The page of what is promised: all 28 faults are on it, and each names tests that there are; and the table of their
guards, which experiments/reliability/guards.py switches off one after another."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|(.*)\|$", PAGE, re.MULTILINE)


def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def named() -> dict[int, list[tuple[str, str]]]:
    """The tests (file, name) that the row of each fault names."""
    return {int(n): re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests) for n, _, _, tests in ROWS if int(n) <= 28}


def test_every_fault_is_there_once_and_names_its_tests():
    assert list(named()) == list(range(1, 29))
    for number, found in named().items():
        assert found, number
        for path, name in found:
            assert name in functions_of(path), f"{number}: {path} has no {name}"


@pytest.fixture(scope="module")
def guards():
    sys.path.insert(0, str(ROOT / "experiments" / "reliability"))
    try:
        import switches
    finally:
        sys.path.pop(0)
    return switches.GUARDS


def test_a_guard_is_in_the_code_once_and_without_it_there_is_code(guards):
    assert len({guard.name for guard in guards}) == len(guards)
    for guard in guards:
        text = (ROOT / "juliagpt_jax" / guard.file).read_text(encoding="utf-8")
        assert text.count(guard.old) == 1, guard.name
        assert ast.dump(ast.parse(text.replace(guard.old, guard.new))) != ast.dump(ast.parse(text)), guard.name


def test_the_tests_of_guards_are_those_of_the_page(guards):
    """No test of the page is without a guard that it must miss, and no guard has a test of its own."""
    for number, found in named().items():
        tests = {guard.test.partition("[")[0] for guard in guards if guard.fault == number}
        assert tests == {f"{path}::{name}" for path, name in found}, number


def test_the_exit_codes_are_those_of_the_code():
    from juliagpt_jax.ground import errors

    codes = {errors.UserError.exit_code, errors.NumericalError.exit_code, errors.StorageError.exit_code}
    assert codes == {2, 3, 4} and all(f"\n| {code} | " in PAGE for code in codes)
