"""Fault 19: a passage of the validation text that the training text has too is counted, and refused over a limit."""

import random

import numpy as np
import pytest

from juliagpt_jax.data import leaks
from juliagpt_jax.data.corpus import load
from juliagpt_jax.ground.errors import UserError


def passages(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    word = lambda: "".join(rng.choices(letters, k=rng.randint(2, 9)))
    return [" ".join(word() for _ in range(30)) + "." for _ in range(count)]


TRAIN, VAL = passages(200, 0), passages(100, 1)


def found(tmp_path, tiny, train, val, *more, end="\n"):
    for name, lines in [("train", train), ("val", val)]:
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + end)
    return load(tiny(f"data.path={tmp_path}", *more).data, 8)


def test_none(tmp_path, tiny):
    corpus = found(tmp_path, tiny, TRAIN, VAL)
    assert corpus.leaks == (100, 0, 0) and not any("stand word for word" in note for note in corpus.notes)


@pytest.mark.parametrize("end", ["\n", ""])
def test_the_same_passage(tmp_path, tiny, end):
    """Wherever it stands, in the last line too."""
    val = [*VAL[:97], TRAIN[0], TRAIN[100], TRAIN[199]]
    corpus = found(tmp_path, tiny, TRAIN, val, end=end)
    assert corpus.leaks == (100, 3, 0)
    assert any("of 100 validation passages 3 stand word for word" in note for note in corpus.notes)
    again = found(tmp_path, tiny, TRAIN, val, end=end)  # from the cache
    assert again.leaks == corpus.leaks and isinstance(again.train, np.memmap)


def test_nearly_the_same_passage(tmp_path, tiny):
    """A point more is the same passage; half a passage of its own is another one; short lines are none."""
    point = [text.replace(" ", ". ", 1) for text in TRAIN[:4]]
    half = [text[: len(text) // 2] + VAL[i][len(text) // 2 :] for i, text in enumerate(TRAIN[4:8])]
    corpus = found(tmp_path, tiny, [*TRAIN, "romeo:"], [*VAL, *point, *half, *["romeo:"] * 30])
    assert corpus.leaks == (108, 0, 4)


def test_refused_over_the_limit_also_from_the_cache(tmp_path, tiny):
    for _ in range(2):
        with pytest.raises(UserError, match=r"10 stand word for word.* 9\.1% of them; --config.data.max_leak=0.05"):
            found(tmp_path, tiny, TRAIN, [*VAL, *TRAIN[:10]])
    assert found(tmp_path, tiny, TRAIN, [*VAL, *TRAIN[:10]], "data.max_leak=0.1").leaks.exact == 10


def test_blocks_make_no_difference(monkeypatch):
    lines = [np.frombuffer((text + "\n").encode(), np.uint8) for text in [*TRAIN, *VAL[:20], *TRAIN[:5]]]
    sizes = np.array([len(line) for line in lines])
    tokens = np.concatenate(lines)
    cut = int(sizes[:200].sum())
    whole = leaks.find(tokens[:cut], sizes[:200], tokens[cut:], sizes[200:], True)
    assert whole == (25, 5, 0)
    for block in (1, 500, 5000):
        monkeypatch.setattr(leaks, "BLOCK", block)
        assert leaks.find(tokens[:cut], sizes[:200], tokens[cut:], sizes[200:], True) == whole


def test_a_text_without_lines_is_looked_at_in_pieces(monkeypatch):
    text = np.frombuffer("".join(TRAIN).encode(), np.uint8)
    whole = leaks.find(text, np.array([len(text)]), text[500:9500], np.array([9000]), True)
    assert whole == (1, 0, 1)
    monkeypatch.setattr(leaks, "LONGEST", 1000)
    assert leaks.find(text, np.array([len(text)]), text[500:9500], np.array([9000]), True) == (9, 0, 9)
