"""What is not the author's goes, whatever its wording; what is the author's stays; and the characters add up."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juliagpt_jax.books.apparatus import name_speaker, speakers, strip

spec = importlib.util.spec_from_file_location("books", Path(__file__).parent / "books.py")
books = importlib.util.module_from_spec(spec)
spec.loader.exec_module(books)
PROSE = books.prose(7, 6)
ONE_LINE = [" ".join(p.split()) for p in PROSE]


def text_of(*blocks):
    """The paragraphs that stay of some blocks that stand between two paragraphs of prose."""
    result = strip("\n\n".join([PROSE[0], *blocks, PROSE[1]]))
    paragraphs = [p for section in result.sections for p in section]
    assert paragraphs[0] == ONE_LINE[0] and paragraphs[-1] == ONE_LINE[1]
    return paragraphs[1:-1]


@pytest.mark.parametrize("how", sorted(books.HEADERS))
def test_headers_and_footers(how):
    result = strip(books.wrapped("\n\n".join(PROSE), how))
    assert [p for section in result.sections for p in section] == ONE_LINE
    assert result.facts == {"title": "On Measure", "author": "Ann Author", "translator": "T. Turner"}
    assert result.ledger.counts["header and footer"] > 100


@settings(max_examples=100)
@given(st.text(" \n\n\nabcABC.,*[]0123456789-|_:", max_size=400), st.sampled_from(["", *sorted(books.HEADERS)]))
def test_characters_add_up(text, how):
    result = strip(books.wrapped(text, how) if how else text)
    assert result.kept + result.ledger.counts.total() == len(books.wrapped(text, how) if how else text)
    assert result.kept >= 0 and all(n >= 0 for n in result.ledger.counts.values()), result.ledger.counts


@pytest.mark.parametrize(
    "block",
    [
        "CHAPTER IV",
        "Chapter 4. Of the Order of Things",
        "BOOK TWO",
        "XIV.",
        "Part 3 ",
        "OF THE NATURE OF MEASURE",
        "Of the Nature of Measure",
        "Introduction.",
        "Socrates - GLAUCON",
        "* * * * *",
        "[Pg 12]",
        "123",
        "[Illustration: A lamp\nthat burns [see the text] brightly.]",
        "[Sidenote: What a lamp is.]",
        "[Footnote 1: A note that\n\nhas two paragraphs.]",
        "[1] A note at the foot of a page, which says that the reader should look at another book.",
        "[A] Another note.",
        "* A third one, with a star.",
        "Name         Weight       Size\nLamp            3           12\nTable          14          200",
        "| a | b |\n| 1 | 2 |",
        "Of Lamps ..................... 12\nOf Tables .................... 14",
        "[Transcriber's Note: the spelling is that of the original.]",
    ],
)
def test_blocks_that_go(block):
    assert text_of(block) == []


@pytest.mark.parametrize(
    "block, stays",
    [
        ("Yes.", "Yes."),
        ("SOCRATES: Yes.", "SOCRATES: Yes."),
        ("Part of it, as he said, is true.", "Part of it, as he said, is true."),
        ("'And is it so?' said he.", "'And is it so?' said he."),
        ("Certainly, Socrates.", "Certainly, Socrates."),
        (
            "     Mother of Rome, delight of men,\n     Dear lamp that under gliding stars\n     Makest to teem",
            None,
        ),
        ("12. The lamp is there.", "The lamp is there."),
        ("\u00a7 148. The lamp is there.", "The lamp is there."),
        ("A lamp[1] is a thing[A] that burns{12}.", "A lamp is a thing that burns."),
        ("It is called [Greek: lychnos] by them.", "It is called lychnos by them."),
        ("The teacher praises the mea-\nsure and the self-\nmade rule, and asks for measure, self, and made.", None),
    ],
)
def test_blocks_that_stay(block, stays):
    expected = stays or " ".join(block.replace("mea-\nsure", "measure").replace("self-\nmade", "self-made").split())
    assert text_of(block) == [expected]


def test_title_page_and_contents():
    front = ["ON MEASURE", "BY\nANN AUTHOR", "London: Printed for W. Innys. 1730.", "by Ann Author", "CONTENTS"]
    entries = [
        "PREFACE",
        "I. Of Lamps     3",
        "II. Of Tables",
        "III. Of the order of things and what may be said of them",
    ]
    result = strip("\n\n".join([*front, *entries, "PREFACE", PROSE[0], "I. OF LAMPS", *PROSE[1:]]))
    assert [p for section in result.sections for p in section] == ONE_LINE
    assert [len(section) for section in result.sections] == [1, 5]


def test_a_text_of_short_lines_is_not_one_long_title_page():
    """A poem has no block that is prose beyond doubt."""
    verses = [f"O lamp of night, thy flame is number {i},\nand so I sing." for i in range(200)]
    result = strip("\n\n".join(["SONGS", "by Ann Author", *verses]))
    assert sum(len(section) for section in result.sections) > 150
    assert result.sections[0][-1].endswith("number 199, and so I sing.")


def test_notes_after_a_chapter_end_where_the_text_goes_on():
    notes = ["FOOTNOTES:", "[A] See the other book.", "[B] And the third,\nwhich is lost.", "  It was never found."]
    assert text_of(*notes, PROSE[2]) == [ONE_LINE[2]]


def test_an_index_goes_to_the_end():
    index = ["INDEX", "Lamps, 3, 7;\n  their oil, 12", "Tables, 14", "OTHER BOOKS BY THE AUTHOR", "On Tables."]
    result = strip("\n\n".join([*PROSE, *index]))
    assert [p for section in result.sections for p in section] == ONE_LINE
    assert result.ledger.counts["index"] > 0


def test_speakers_get_a_colon_and_their_name():
    turns = ["Ath. Is it so?", "Cle. It is.", "Ath. And this?"] * 20
    sections = [["Athenian Stranger. Tell me.", "Cleinias. I will.", *turns, "Thus. He ended."]]
    names = speakers(sections)
    named = [name_speaker(p, names) for p in sections[0]]
    assert named[:4] == [
        "Athenian Stranger: Tell me.",
        "Cleinias: I will.",
        "Athenian Stranger: Is it so?",
        "Cleinias: It is.",
    ]
    assert named[-1] == "Thus. He ended."
    assert speakers([["Yes. He did.", "No. He did not."]]) == {}
