"""The page of what is promised: all 28 faults are on it, and each names tests that there are."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|(.*)\|$", PAGE, re.MULTILINE)


def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_fault_is_there_once_and_names_its_tests():
    rows = {number: named for number, _, _, named in ROWS if int(number) <= 28}
    assert list(rows) == [str(n) for n in range(1, 29)]
    for number, named in rows.items():
        found = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", named)
        assert found, number
        for path, name in found:
            assert name in functions_of(path), f"{number}: {path} has no {name}"


def test_the_exit_codes_are_those_of_the_code():
    from juliagpt_jax.ground import errors

    codes = {errors.UserError.exit_code, errors.NumericalError.exit_code, errors.StorageError.exit_code}
    assert codes == {2, 3, 4} and all(f"\n| {code} | " in PAGE for code in codes)
