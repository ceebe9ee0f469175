"""Where a document ends: by signs that each cut states, and by no other."""

from pathlib import Path

import pytest

from juliagpt_jax.books.cuts import CUTS, articles, blanks, stories

WIKI = (
    " \n = One = \n \n It = x and 1 = 2 . \n \n = = Life = = \n \n text \n = not a title = \n Two = \n \n"
    " = Two <unk> = \n \n end \n"
)
SHARED = Path(__file__).parents[3] / "shared" / "data" / "wikitext-2"


def test_an_article_begins_at_a_title_between_blank_lines():
    found = articles(WIKI)
    assert [piece.title for piece in found] == ["One", "Two <unk>"]
    assert found[0].text == WIKI[: WIKI.index(" = Two <unk>")] and "".join(p.text for p in found) == WIKI


@pytest.mark.parametrize("text", ["", "no title at all", "before \n \n = A = \n \n x", " = A = \n = B = \n"])
def test_articles_lose_nothing(text):
    assert "".join(piece.text for piece in articles(text)) == text


@pytest.mark.skipif(not SHARED.exists(), reason="WikiText-2 is not there")
@pytest.mark.parametrize("name", ["valid.txt", "test.txt"])
def test_wikitext_2_has_the_articles_that_its_paper_counts(name):
    text = (SHARED / name).read_text()
    found = articles(text)
    assert len(found) == 60 and "".join(piece.text for piece in found) == text


def test_a_story_ends_at_its_mark():
    found = stories("\nOne.\n\nMore.\n<|endoftext|>\n\nTwo.\n<|endoftext|>\nCut o")
    assert [(p.text, p.cause) for p in found] == [("One.\n\nMore.", ""), ("Two.", ""), ("Cut o", "unfinished")]
    assert [p.text for p in stories("One.<|endoftext|>\n")] == ["One."]


def test_two_blank_lines_end_a_document():
    assert [p.text for p in blanks("\n\n\na\n\nb\n \n\t\nc\n\n\n\n\nd\n")] == ["a\n\nb", "c", "d"]


def test_a_file_is_a_document():
    assert [p.text for p in CUTS["file"]("\n a\n\n\n\nb \n")] == ["a\n\n\n\nb"]
