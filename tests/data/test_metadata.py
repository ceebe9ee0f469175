"""Fault 13: whatever is odd in metadata is refused with file, line and reason; or left out, counted, up to a cap."""

import json
import random

import numpy as np
import pytest

from juliagpt_jax.data import metadata
from juliagpt_jax.data.corpus import load
from juliagpt_jax.data.metadata import Words
from juliagpt_jax.ground.errors import UserError

LINES = 60


def rows(count: int = LINES) -> list[dict]:
    words = "the nature of number and of line is one".split()
    return [
        {
            "text": f"{' '.join(words[i % 5 :])} {'abcdefghij'[i % 10]}.",
            "phase": ("trivium", "quadrivium", "philosophy")[i % 3],
            "difficulty": i / count,
            "index": i,
        }
        for i in range(count)
    ]


def encode(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def data(tiny, tmp_path):
    """`data("data.on_bad=skip", ...)`: the data settings of a folder with texts and metadata, as prepare writes one."""
    for name, count in [("train", LINES), ("val", 20)]:
        (tmp_path / f"{name}.txt").write_text("".join(row["text"] + "\n" for row in rows(count)))
        (tmp_path / f"{name}_enriched.jsonl").write_bytes(encode(rows(count)))
    return lambda *more: tiny(f"data.path={tmp_path}", "data.max_leak=1", *more).data


def fields_are(corpus, wanted: list[dict]) -> None:
    phase, difficulty = (corpus.train_chunks.columns[name] for name in ("phase", "difficulty"))
    assert isinstance(phase, Words)
    assert [phase.names[code] for code in phase.codes] == [row["phase"] for row in wanted]
    np.testing.assert_array_equal(difficulty, [row["difficulty"] for row in wanted])
    assert corpus.tokenizer.decode(corpus.train) == "".join(row["text"] + "\n" for row in wanted)
    np.testing.assert_array_equal(corpus.train_chunks.lengths, [len(row["text"]) + 1 for row in wanted])


def test_fields_beside_a_text(data):
    fields_are(load(data(), 8), rows())


def test_a_folder_of_metadata_alone(data, tmp_path):
    with_text = load(data(), 8)
    for name in ("train", "val"):
        (tmp_path / f"{name}.txt").unlink()
    alone = load(data(), 8)
    fields_are(alone, rows())
    assert alone.fingerprint != with_text.fingerprint
    np.testing.assert_array_equal(alone.val, with_text.val)


@pytest.mark.parametrize("folder", [False, True])
def test_files_of_metadata_are_split_by_lines(data, tmp_path, tiny, folder):
    path = tmp_path / "files"
    path.mkdir()
    (path / "a.jsonl").write_bytes(encode(rows()))
    parts = [rows()[:54]]
    if folder:
        (path / "b.jsonl").write_bytes(encode(rows()[:20]))
        parts.append(rows()[:18])
    else:
        path = path / "a.jsonl"
    corpus = load(tiny(f"data.path={path}", "data.max_leak=1").data, 8)
    fields_are(corpus, [row for part in parts for row in part])
    assert any("last 10% of the lines of" in note for note in corpus.notes)


def test_metadata_of_one_side_only(data, tmp_path):
    (tmp_path / "val_enriched.jsonl").unlink()
    corpus = load(data(), 8)
    fields_are(corpus, rows())
    assert corpus.val_chunks.columns == {} and len(corpus.val_chunks) == 20


def change(number: int, what) -> bytes:
    """The file with line `number` (from 1) made anew by `what`, a function of its bytes."""
    lines = encode(rows()).split(b"\n")
    lines[number - 1] = what(lines[number - 1])
    return b"\n".join(lines)


def with_row(**fields) -> bytes:
    return json.dumps({**rows()[6], **fields}).encode()


deep = b"[" * 100_000
FAULTS = {
    "malformed": (change(7, lambda line: line[:-5]), 7, "not JSON"),
    "not an object": (change(7, lambda line: b"[1]"), 7, "not a JSON object"),
    "nested too deeply": (change(7, lambda line: deep), 7, "not JSON"),
    "a number of 5000 digits": (change(7, lambda line: b'{"difficulty": ' + b"9" * 5000 + b"}"), 7, ""),
    "missing field": (change(7, lambda line: line.replace(b'"phase"', b'"phrase"')), 7, 'no "phase"'),
    "a field too many": (change(7, lambda line: with_row(tier="core")), 7, 'has "tier", which most lines lack'),
    "a text for a number": (change(7, lambda line: with_row(difficulty="0.5")), 7, '"difficulty" is a text'),
    "a number for a text": (change(7, lambda line: with_row(phase=3)), 7, '"phase" is a number'),
    "null": (change(7, lambda line: with_row(difficulty=None)), 7, '"difficulty" is null'),
    "true": (change(7, lambda line: with_row(difficulty=True)), 7, '"difficulty" is true or false'),
    "a list": (change(7, lambda line: with_row(phase=["trivium"])), 7, '"phase" is a list'),
    "nan": (change(7, lambda line: with_row(difficulty=float("nan"))), 7, "not a finite number"),
    "1e400": (change(7, lambda line: line.replace(b"0.1,", b"1e400,")), 7, "not a finite number"),
    "text is a number": (change(7, lambda line: with_row(text=1)), 7, '"text" is a number'),
    "another text": (change(7, lambda line: with_row(text="something else.")), 7, "not the same line of the text"),
    "a line end in a text": (change(7, lambda line: with_row(phase="tri\nvium")), 7, "holds the end of a line"),
    "half a surrogate": (change(7, lambda line: with_row(phase="\ud800")), 7, "surrogate"),
    "torn": (encode(rows())[:-30], LINES, "not JSON"),
    "torn to nothing": (encode(rows())[:-1].rpartition(b"\n")[0] + b"\n", None, "59 lines describe a text of 60"),
    "torn before the end": (encode(rows())[:2000], encode(rows())[:2000].count(b"\n") + 1, "torn"),
    "byte-order mark": (b"\xef\xbb\xbf" + encode(rows()), 1, "byte-order mark"),
    "byte-order mark inside": (change(7, lambda line: b"\xef\xbb\xbf" + line), 7, "byte-order mark"),
    "CRLF": (encode(rows()).replace(b"\n", b"\r\n"), 1, "carriage return"),
    "one CRLF": (change(7, lambda line: line + b"\r"), 7, "carriage return"),
    "NUL": (change(7, lambda line: line.replace(b"r", b"\0", 1)), 7, "NUL"),
    "NUL as an escape": (change(7, lambda line: with_row(phase="a\0b")), 7, "NUL"),
    "10 MB": (change(7, lambda line: with_row(phase="x" * 10_000_000)), 7, "a line of 10,000"),
    "duplicate key": (change(7, lambda line: line[:-1] + b', "phase": "logic"}'), 7, '"phase" stands in it twice'),
    "empty line": (change(7, lambda line: b""), 7, "is empty"),
    "not UTF-8": (change(7, lambda line: line.replace(b"vium", b"vi\xffm")), 7, "is not UTF-8"),
    "a line more": (encode(rows()) + encode(rows()[:1]), None, "61 lines describe a text of 60"),
}


@pytest.mark.parametrize("content, line, says", FAULTS.values(), ids=FAULTS)
def test_fault_13_is_refused_with_file_line_and_reason(data, tmp_path, content, line, says):
    (tmp_path / "train_enriched.jsonl").write_bytes(content)
    with pytest.raises(UserError) as error:
        load(data(), 8)
    assert f"train_enriched.jsonl:{line if line else ''}" in str(error.value) and says in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


REPAIRED = {"byte-order mark", "CRLF", "one CRLF"}
REFUSED = {"torn to nothing", "torn before the end", "a line more"}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_13_is_left_out_and_counted(data, tmp_path, name):
    """What stands around a sound line is taken off; a line more or less shifts all others, and is refused."""
    content, line, says = FAULTS[name]
    (tmp_path / "train_enriched.jsonl").write_bytes(content)
    skipping = data("data.on_bad=skip", "data.max_bad=0.05")
    if name in REFUSED:
        with pytest.raises(UserError):
            load(skipping, 8)
        return
    corpus = load(skipping, 8)
    if name in REPAIRED:
        fields_are(corpus, rows())
        return
    fields_are(corpus, [row for number, row in enumerate(rows(), 1) if number != line])
    (note,) = [note for note in corpus.notes if "left out" in note]
    assert f"1 of 60 lines left out; the first is line {line}: " in note and says in note


def test_skipping_stops_over_the_cap(data, tmp_path):
    lines = encode(rows()).split(b"\n")
    lines[3] = lines[17] = b"{"
    (tmp_path / "train_enriched.jsonl").write_bytes(b"\n".join(lines))
    assert len(load(data("data.on_bad=skip", "data.max_bad=0.04"), 8).train_chunks) == 58
    with pytest.raises(UserError, match=r"2 of 60 lines left out; the first is line 4: .*max_bad=0.03"):
        load(data("data.on_bad=skip", "data.max_bad=0.03"), 8)


def test_texts_must_be_somewhere(data, tmp_path, tiny):
    path = tmp_path / "bare.jsonl"
    path.write_bytes(encode([{"phase": "trivium"}] * 30))
    with pytest.raises(UserError, match=r'bare\.jsonl: no "text" in its lines'):
        load(tiny(f"data.path={path}").data, 8)


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_five_hundred_random_edits_never_end_in_a_traceback(data, on_bad):
    """One to five bytes changed, put in or taken out, anywhere; what loads has its rows."""
    rng, sound = random.Random(on_bad), encode(rows())
    beside = [row["text"] for row in rows()]
    settings, outcomes = data(f"data.on_bad={on_bad}", "data.max_bad=0.1"), {True: 0, False: 0}
    for trial in range(500):
        content = bytearray(sound)
        for _ in range(rng.randint(1, 5)):
            place, sign = rng.randrange(len(content)), rng.choice([rng.randrange(256), ord('"'), 10, 92, 0, 44])
            if (how := rng.randrange(3)) == 0:
                content[place] = sign
            elif how == 1:
                content.insert(place, sign)
            else:
                del content[place : place + rng.choice([1, 1, 50])]
        try:
            table = metadata.read(metadata.Path("t.jsonl"), bytes(content), settings, beside if trial % 2 else None)
            assert len(table.texts) == len(table.lines) > 0
            assert all(len(c.codes if isinstance(c, Words) else c) == len(table.lines) for c in table.columns.values())
            outcomes[True] += 1
        except UserError as error:
            assert "t.jsonl" in str(error) and "\n" not in str(error)
            outcomes[False] += 1
    assert min(outcomes.values()) > 5, outcomes
