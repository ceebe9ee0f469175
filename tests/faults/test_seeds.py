"""Inputs that once ended a reader in something else than a value or one line, and a few random edits of each format:
experiments/reliability has the whole."""

import random
import sys
from pathlib import Path

import pytest

RELIABILITY = Path(__file__).parents[2] / "experiments" / "reliability"
SEEDS = Path(__file__).parent / "seeds"


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(RELIABILITY))
    try:
        import edits
        import formats
        import fuzz
    finally:
        sys.path.remove(str(RELIABILITY))
    return edits, formats, fuzz


def test_inputs_that_were_found(scripts, tmp_path):
    edits, formats, fuzz = scripts
    read = 0
    for name, form in formats.FORMATS.items():
        for seed in sorted((SEEDS / fuzz.folder_of(name)).glob("*")):
            path = formats.lay(form, tmp_path)
            path.write_bytes(seed.read_bytes())
            assert edits.outcome(form, path) == "refused", seed
            read += 1
    assert read == len([p for p in SEEDS.rglob("*") if p.is_file()]) > 0


def test_random_edits_of_every_format(scripts):
    edits, formats, _ = scripts
    for name in formats.FORMATS:
        found = edits.tried(name, 6, 1, None)
        assert not found["bad"], (name, found)
        assert found.get("refused", 0) + found.get("accepted", 0) == 6


def test_an_end_that_is_not_meant_is_seen(scripts, tmp_path):
    edits, formats, _ = scripts
    path = tmp_path / "a"
    path.write_bytes(b"x")

    def form(read, holds=lambda _: True):
        return formats.Format("a", lambda: b"x", read, holds)

    def raising(error):
        def read(_):
            raise error

        return read

    assert edits.outcome(form(lambda _: 1), path) == "accepted"
    assert edits.outcome(form(lambda _: 1, lambda _: False), path) == "WRONG"
    assert edits.outcome(form(raising(KeyError("x"))), path).startswith("TRACEBACK: KeyError")
    assert edits.outcome(form(raising(formats.CommandError(" "))), path) == "WITHOUT A WORD"
    rng = random.Random(0)
    assert len({edits.edited(b"abc 12 def", rng) for _ in range(50)}) > 30
