"""What is not the author's goes, whatever its wording; what is the author's stays; and the characters add up."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juliagpt_jax.books.apparatus import name_speaker, speakers, strip
from juliagpt_jax.books.publisher import split

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
        "Introduction.",
        "# A heading in Markdown",
        "* * * * *",
        "[Pg 12]",
        "[Illustration: A lamp\nthat burns [see the text] brightly.]",
        "[Sidenote: What a lamp is.]",
        "[Footnote 1: A note that\n\nhas two paragraphs.]",
        "Name         Weight       Size\nLamp            3           12\nTable          14          200",
        "| a | b |\n| 1 | 2 |",
        "Of Lamps ..................... 12\nOf Tables .................... 14",
    ],
)
def test_blocks_that_go(block):
    assert text_of(block) == []


CONFIRMED = {
    "headings in capitals": ["OF THE NATURE OF LAMPS", "{0}", "OF THE NATURE OF OIL", "{1}", "OF WICKS", "{2}"],
    "headings in title case": ["Of the Nature of Lamps", "{0}", "Of the Nature of Oil", "{1}", "Of Wicks", "{2}"],
    "a heading beside a sure one": ["CHAPTER I", "OF MEASURE", "{0}"],
    "page numbers": ["12", "{0}", "13", "{1}", "14", "{2}"],
    "notes by number": ["{0}[1]", "[1] A note.", "{1}[2]", "[2] Another,\nof two lines.", "{2}"],
    "notes by letter": ["{0}[A]", "[A] A note.", "{1}[B]", "[B] Another.", "{2}"],
    "notes by stars": ["{0}*", "* A note.", "{1}*", "* Another.", "{2}\u2020", "\u2020 A third."],
    "notes under their heading": ["{0}", "FOOTNOTES:", "[A] See the other book.", "[B] And the third,\nwhich is lost."],
    "numbers of paragraphs": ["[1] {0}", "[2] {1}", "[3] {2}"],
    "numbers with a stop": ["1. {0}", "2. {1}", "3. {2}"],
    "sections": ["\u00a7 148. {0}"],
}


@pytest.mark.parametrize("what", CONFIRMED)
def test_what_the_work_itself_confirms_goes(what):
    """A heading that others follow, a note that the text refers to, a number of a sequence."""
    blocks = [block.format(*PROSE[2:5]) for block in CONFIRMED[what]]
    count = sum("{" in block for block in CONFIRMED[what])
    assert text_of(*blocks) == ONE_LINE[2 : 2 + count]


NOT_CONFIRMED = {
    "one line in capitals": "STOP THE MILL",
    "one line in title case": "Good Morning Doctor Harrow",
    "a year": "1984",
    "emphasis": "*Meanwhile,* nobody has asked the clockmaker about it.",
    "an item of a list": "* Two apples, and a pear from the old garden.",
    "a citation": "[12] The court has said so before.",
    "an initial": "C. S. Harrow, who had the house, never spoke of it.",
    "two initials": "I. Harrow and C. Harrow were never seen together.",
    "an ebook": "She opened the ebook and remembered the harbour.",
    "several words of notes": "He proofread the ebook in ascii, at www.example.org, with the transcriber.",
    "a transcriber": "Transcriber Harrow looked up from her desk.",
    "a publisher": "She had written to the publishers in London: nobody answered.",
    "brackets": "[Music was playing, and nobody heard it.]",
    "an editor": "[Editors are patient people, he thought.]",
    "a part of a sentence": "Part Two was over before he knew it.",
    "a date": "12 March 1911",
    "a copyright": "He asked about the copyright of the letter.",
    "a scene": "Scene of the crime: the old harbour.",
}


@pytest.mark.parametrize("what", NOT_CONFIRMED)
def test_what_has_one_sign_alone_stays(what):
    assert text_of(PROSE[2], NOT_CONFIRMED[what], PROSE[3])[1:-1] == [NOT_CONFIRMED[what].removeprefix("[12] ")]


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


@pytest.mark.parametrize("count", [3, 10, 40])
def test_short_poems_at_the_start_are_no_title_page(count):
    stanza = "the grey wind calls beneath the moon,\nthe red leaf turns beside the tide,\nand sleeps."
    result = strip("\n\n".join([stanza] * count))
    assert sum(map(len, result.sections)) == count and not result.ledger.counts["front matter"]


def test_a_rule_that_would_take_too_much_takes_nothing():
    """A text of nothing but notes is no text with notes: what the rule would have taken is counted as spared."""
    blocks = [b for k in range(30) for b in (f"The lamp{k} burns.[{k}]", f"[{k}] {ONE_LINE[k % 6]}")]
    result = strip("\n\n".join(blocks))
    assert not result.ledger.counts["notes"] and result.ledger.spared["notes"] > 5_000
    assert sum(map(len, result.sections)) == 60


def test_what_goes_leaves_samples():
    result = strip("\n\n".join([*PROSE[:2], "[Sidenote: What a lamp is.]", *PROSE[2:]]))
    assert result.ledger.samples("sidenotes") == ["[Sidenote: What a lamp is.]"]
    assert result.ledger.counts["sidenotes"] == len("[Sidenote: What a lamp is.]")


@pytest.mark.parametrize("place", ["  5", "\t5", " 5"], ids=["spaces", "tab", "one space"])
def test_numbers_of_lines_in_the_margin(place):
    gap = place[:-1] if place != "  5" else " " * 12
    verse = [
        f"The grey wind calls beside the river{gap}{n}" if n % 5 == 0 else "The pale moon sleeps," for n in range(1, 61)
    ]
    stanzas = ["\n".join(verse[k : k + 12]) for k in range(0, 60, 12)]
    (section,) = strip("\n\n".join(stanzas)).sections
    assert len(section) == 5 and not any(c.isdigit() for c in " ".join(section))
    prices = "\n".join(f"The lamp of the captain costs{gap}{n}" for n in (3, 14, 15, 92, 65, 35))
    assert "92" in " ".join(strip(f"{PROSE[0]}\n\n{PROSE[1]}\n\nThey say: {prices}").sections[0]) or gap != " "


@pytest.mark.parametrize(
    "cut, joined",
    [
        ("an extra\u00ad\nordinary lamp", "an extraordinary lamp"),
        ("a car and a pet and a car\u00ad\npet", "a car and a pet and a carpet"),
        ("of gene\u2010\nrosity", "of generosity"),
        ("a demon\u00ac\nstration", "a demonstration"),
        ("a demon\u00ac stration", "a demonstration"),
        ("in magni-\nficence", "in magnificence"),
        ("the Anglo-\nSaxon king", "the Anglo-Saxon king"),
        ("a well-\nknown man, well-known", "a well-known man, well-known"),
        ("the caf\u00e9-\nteria", "the caf\u00e9teria"),
    ],
)
def test_words_cut_at_the_end_of_a_line(cut, joined):
    assert text_of(f"The captain praises {cut} in the evening.") == [f"The captain praises {joined} in the evening."]


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


# The publisher's header and footer.


def test_several_books_in_one_file():
    """Joined they are the file; each has its own facts, and no licence stands between two."""
    one, two = (books.wrapped("\n\n".join(PROSE[:3])), books.wrapped("\n\n".join(PROSE[3:]), "small print"))
    header = "The Project Gutenberg Etext of On Measure\n\nTitle: On Measure\n\nAuthor: Ann Author\n\n\n"
    bare = header + "\n\n".join(PROSE[:3]) + "\n\nEnd of the Project Gutenberg Etext of On Measure\n\n"
    for text in (one + one, one + two, two + one + two, bare + one, one + bare, two + bare + bare):
        parts = split(text)
        assert "".join(parts) == text and len(parts) == text.count("Author: Ann Author")
        for part in parts:
            (section,) = strip(part).sections
            assert section in (ONE_LINE[:3], ONE_LINE[3:])
    assert split("\n\n".join(PROSE)) == ["\n\n".join(PROSE)]


LICENCE = (
    "*** START: FULL LICENSE ***\n\nTHE FULL PROJECT GUTENBERG LICENSE\n\nPlease read this.\n\n"
    + "Redistribution is subject to the trademark license.\n" * 30
)


@pytest.mark.parametrize(
    "before, after",
    [
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X\n\n", "\n\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***\n"),
        ("START OF THE PROJECT GUTENBERG EBOOK LAMPS\n\n", "\n\nEnd of Project Gutenberg's Lamps\n"),
        ("*** START OF THE PROJECT GUTENBERG EBOOK LAMPS ***\n\n", "\n\n" + LICENCE),
        ("Title: Lamps\n\nRelease Date: June, 2003  [Etext #4999]\n\n***This file should be named l10.txt***\n\n",
         "\n\nEnd of Project Gutenberg's Lamps\n\n***START**THE SMALL PRINT!***\nLawyers.\n*END THE SMALL PRINT!*\n"),
    ],
    ids=["no closing stars", "no stars", "no end line", "small print at the end"],
)  # fmt: skip
def test_headers_of_every_age(before, after):
    header = "The Project Gutenberg EBook of Lamps, by A. Nobody\n\n"
    result = strip(header + before + "\n\n".join(PROSE) + after)
    assert [p for section in result.sections for p in section] == ONE_LINE


def test_an_author_may_name_the_publisher():
    text = "\n\n".join([*PROSE[:3], "End of Project Gutenberg, he thought, and of all the lamps.", *PROSE[3:]])
    assert sum(map(len, strip(text).sections)) == 7


@pytest.mark.parametrize(
    "end",
    [
        "He had the copyright, she said, and it was reproduced in every paper of the town.",
        "Visit www.example.com, she said, and read the ebook.",
    ],
)
def test_the_last_words_of_a_story_are_no_licence(end):
    for blocks in ([end, *PROSE], [*PROSE, end]):
        assert sum(map(len, strip("\n\n".join(blocks)).sections)) == 7


def test_a_text_in_capitals_is_no_title_page():
    assert sum(map(len, strip("\n\n".join(p.upper() for p in PROSE * 4)).sections)) == 24


@pytest.mark.parametrize(
    "page",
    [
        "Copyright \u00a9 2021 by Ann Author. All rights reserved.",
        "ISBN 978-0-00-000000-2",
        "This is a work of fiction. Any likeness to persons living or dead is not meant.",
        "No part of this book may be reproduced without the written permission of the publisher.",
        "This work is licensed under a Creative Commons licence.",
    ],
)
def test_no_licence_stays(page):
    for blocks in ([page, *PROSE], [*PROSE, page]):
        assert [p for section in strip("\n\n".join(blocks)).sections for p in section] == ONE_LINE
