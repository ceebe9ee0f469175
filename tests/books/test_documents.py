"""Documents: cleaned by rule, dropped by rule, split whole; each ends in one fate, and what went is counted."""

import dataclasses
import json

import pytest

from juliagpt_jax.books import documents, sources
from juliagpt_jax.books.archives import Budget
from juliagpt_jax.books.documents import FATES, Options, blocklist, clean, run
from juliagpt_jax.books.ledger import Ledger
from juliagpt_jax.ground.errors import UserError

PLAIN = Options("blank", min_tokens=3, max_tokens=20)


def words(text: str) -> int:
    return len(text.split())


def made(tmp_path, texts, options=PLAIN, **more):
    """What comes of documents that stand in one file, and what the first of them met."""
    (tmp_path / "a.txt").write_text("\n\n\n".join(texts))
    files = [("", work) for work in sources.local(tmp_path)[0]]
    return run(files, options, Budget(), words, **more)


def usual(n: int) -> list[str]:
    return [f"document {i} has some {'more ' * (i % 3)}words" for i in range(n)]


@pytest.mark.parametrize(
    "text, becomes, rules",
    [
        ("a <b>bold</b> word", "a bold word", {"html": 7}),
        ("one<br/>two</p><p class='x'>three", "one\ntwo\n\nthree", {"html": 22}),
        ("5 &lt; 6 <i>so</i> &amp; on", "5 < 6 so & on", {"html": 7}),
        ("a &amp; b", "a &amp; b", {}),
        ("if a<b and c>d, <3 <unk> <eos>", "if a<b and c>d, <3 <unk> <eos>", {}),
        ("x<!-- no --><script>var i = 1 < 2;</script>y", "xy", {"html": 42}),
        ("zero\u200bwidth \ufeffmark\x07 soft\u00adhyphen", "zerowidth mark softhyphen", {"unprintable": 4}),
        ("no\u00a0break\u2028line\x0bend\ttab", "no break\nline\nend\ttab", {}),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u2019 \u20ac",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u2019 \u20ac",
            {},
        ),
    ],
)
def test_cleaning(text, becomes, rules):
    ledger = Ledger()
    assert clean(text, ledger) == becomes
    assert {rule: n for rule, n in ledger.counts.items() if n} == rules


def test_each_document_ends_in_one_fate(tmp_path):
    bad = ["too short", "long " * 21, "a word that Damn well counts", *usual(2), "<p></p>"]
    found = made(tmp_path, [*usual(40), *bad], blocked=frozenset({"damn"}))
    counts = {fate: len(found.of(fate)) for fate in FATES}
    assert counts == {
        "train": 36,
        "val": 4,
        "test": 0,
        "empty": 1,
        "unfinished": 0,
        "short": 1,
        "long": 1,
        "kind": 0,
    } | {
        "blocked": 1,
        "exact": 2,
    }
    assert sum(counts.values()) == len(found.documents) == 46
    assert found.of("exact")[0].index == 43, "the first of two stays"


def test_limits_include_their_ends_and_nought_is_none(tmp_path):
    texts = ["one two", "one two three", "w " * 20, "w " * 21]
    fates = lambda **more: [d.fate for d in made(tmp_path, texts, dataclasses.replace(PLAIN, **more)).documents]
    assert [fate in ("train", "val") for fate in fates()] == [False, True, True, False]
    assert {"short", "long"}.isdisjoint(fates(min_tokens=0, max_tokens=0))
    of_kind = lambda text: documents.fate(text, 9, dataclasses.replace(PLAIN, kind="code"), frozenset())
    assert [of_kind("one two three\n" * 9), of_kind("x = f(y)\nreturn x\n")] == ["kind", ""]


def test_a_word_of_the_list_is_a_whole_word(tmp_path):
    (tmp_path / "list").write_text("ass\nHELL\n\ndon't\n")
    listed, digest = blocklist(tmp_path / "list")
    assert listed == {"ass", "hell", "don't"} and len(digest) == 64
    (tmp_path / "texts").mkdir()
    texts = ["a class of shells", "go to Hell, now", "I don't know", "an ass is that"]
    found = made(tmp_path / "texts", [*texts, *usual(5)], blocked=listed)
    assert [d.fate == "blocked" for d in found.documents[:4]] == [False, True, True, True]


@pytest.mark.parametrize(
    "content, says", [("two words\n", "list:1: 'two words' is more than one"), ("\n\n", "no word in it")]
)
def test_a_list_that_is_none(tmp_path, content, says):
    (tmp_path / "list").write_text(content)
    with pytest.raises(UserError, match=says):
        blocklist(tmp_path / "list")


def test_the_split_is_of_whole_documents_by_the_seed(tmp_path):
    of = lambda seed: [d.index for d in made(tmp_path, usual(50), dataclasses.replace(PLAIN, seed=seed)).of("val")]
    assert len(of(0)) == 5 and of(0) == of(0) and of(0) != of(1)
    with pytest.raises(UserError, match="1 documents are left"):
        made(tmp_path, usual(1))


def test_a_given_split_keeps_its_validation_whole(tmp_path):
    """Rules act on the training side alone: on the others, models are compared."""
    (tmp_path / "t.txt").write_text("x y\n\n\n" + "\n\n\n".join(usual(5)))
    files = [(side, sources.Work(side, tmp_path / "t.txt")) for side in ("train", "val")]
    found = run(files, dataclasses.replace(PLAIN, clean=False), Budget(), words)
    assert [d.fate for d in found.documents] == ["short", *["train"] * 5, *["val"] * 6]


def test_rows_keep_the_fields_that_all_have(tmp_path):
    rows = [
        {"text": f"{text}\n\n\n\nmore", "phase": "one", "level": i, "words": 99} for i, text in enumerate(usual(10))
    ]
    rows[3]["note"] = "alone"
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files, _ = documents.works(tmp_path, "row")
    found = run([("", work) for work in files], dataclasses.replace(PLAIN, unit="row"), Budget(), words)
    assert found.documents[3].fields == {"title": "", "phase": "one", "level": 3}
    assert found.documents[3].text == rows[3]["text"]
    assert "note, words" in found.notes[0]
    with open(tmp_path / "a.jsonl", "a") as file:
        file.write('{"text": 3}\n')
    with pytest.raises(UserError, match=r'a.jsonl:11: has no "text" that is one; --errors=skip'):
        run([("", work) for work in files], dataclasses.replace(PLAIN, unit="row"), Budget(), words)
    lenient = dataclasses.replace(PLAIN, unit="row", errors="skip")
    again = run([("", work) for work in files], lenient, Budget(), words)
    assert len(again.documents) == 10 and "1 rows left out; the first is a.jsonl:11" in again.notes[0]
