"""What is known of chunks: line for line with the text, and refused where it is not."""

import json

import pytest

from juliagpt_jax.data import schoolroom
from juliagpt_jax.data.enriched import fields, where
from juliagpt_jax.errors import UserError

LINES = ["all men are mortal.", "a line has no breadth.", "know thyself."]


@pytest.fixture
def folder(tmp_path):
    rows = [{"text": t, "phase": p} for t, p in zip(LINES, ["trivium", "quadrivium", "trivium"], strict=True)]
    (tmp_path / "val_enriched.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_folder(folder):
    rows = fields(str(folder), "val", LINES)
    assert rows is not None and [row["phase"] for row in rows] == ["trivium", "quadrivium", "trivium"]
    assert fields(str(folder), "train", LINES) is None
    assert where("phase in trivium", rows) == [0, 2]
    assert where(" phase in quadrivium , trivium", rows) == [0, 1, 2]


def test_the_schoolroom_knows_its_passages():
    train, val = schoolroom.corpus()
    for part, passages in [("train", train), ("val", val)]:
        rows = fields("schoolroom", part, [])
        assert rows is not None and [row["text"] for row in rows] == [p.text for p in passages]
        assert {row["phase"] for row in rows} == {"trivium", "quadrivium", "philosophy"}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (LINES[:2], "val_enriched.jsonl:3: not the text of line 3 of val.txt"),
        ([*LINES, "one more."], "val_enriched.jsonl: 3 lines, val.txt has 4"),
        ([LINES[0], "another.", LINES[2]], "val_enriched.jsonl:2: not the text of line 2"),
    ],
)
def test_what_does_not_fit_the_text_is_refused(folder, lines, says):
    with pytest.raises(UserError, match=says):
        fields(str(folder), "val", lines)


@pytest.mark.parametrize("line", ["[1]", '"text"', "{"])
def test_a_line_that_is_no_object_is_refused(folder, line):
    (folder / "val_enriched.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"val_enriched.jsonl:1: not "):
        fields(str(folder), "val", LINES)


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("phase", "is not of the form: FIELD in VALUE,VALUE"),
        ("phase in ", "is not of the form"),
        ("phase in trivium,", "is not of the form"),
        ("fase in trivium", "no chunk has a field 'fase'; did you mean phase"),
        ("phase in trivum", "phase is 'trivum' in no chunk; did you mean trivium"),
    ],
)
def test_a_condition_that_cannot_be_met_is_refused(folder, condition, says):
    with pytest.raises(UserError, match=says):
        where(condition, fields(str(folder), "val", LINES) or [])
