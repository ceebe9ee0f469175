"""What is computed before the first step is computed once: a run that was stopped goes on with the part it was at."""

import numpy as np
import pytest

from juliagpt_jax.ground.devices import cache_folder
from juliagpt_jax.objectives.beforehand import in_parts

PARTS = ("train-0", "train-1", "dev-0")
KNOWN = ["a model", "some examples"]


class Made:
    """Makes parts, and stops before the one that it is told."""

    def __init__(self, stops_at: str = ""):
        self.stops_at, self.asked = stops_at, []

    def __call__(self, name):
        if name == self.stops_at:
            raise KeyboardInterrupt
        self.asked.append(name)
        return {"n": np.arange(PARTS.index(name) + 1)}


def parts(make, known=KNOWN):
    sound = lambda name, arrays: arrays.keys() == {"n"} and len(arrays["n"]) == PARTS.index(name) + 1
    return [own["n"].tolist() for own in in_parts("numbers", known, PARTS, make, sound)]


def test_what_was_made_is_not_made_again():
    with pytest.raises(KeyboardInterrupt):
        parts(Made("train-1"))
    again, third, other = Made(), Made(), Made()
    assert parts(again) == [[0], [0, 1], [0, 1, 2]] == parts(third) == parts(other, ["another model", KNOWN[1]])
    assert again.asked == ["train-1", "dev-0"] and third.asked == [] and other.asked == list(PARTS)


def test_a_part_that_is_damaged_or_another_is_made_again():
    parts(Made())
    (folder,) = (cache_folder() / "numbers").iterdir()
    (folder / "train-0.npz").write_bytes((folder / "dev-0.npz").read_bytes())
    (folder / "train-1.npz").write_bytes((folder / "train-1.npz").read_bytes()[:-9])
    again = Made()
    assert parts(again) == [[0], [0, 1], [0, 1, 2]] and again.asked == ["train-0", "train-1"]


def test_a_cache_that_cannot_be_written_is_said_and_no_fault(capsys):
    (cache_folder() / "numbers").write_text("a file where a folder should be")
    assert parts(Made()) == [[0], [0, 1], [0, 1, 2]]
    assert capsys.readouterr().err.count("of the numbers is not cached") == 3
