"""Pages of HTML to text: what the page marks as no text goes, on a second sign; what any program wrote is read."""

import time

import pytest

from juliagpt_jax.books.pages import HEADING, read
from juliagpt_jax.ground.errors import UserError

LONG = "The lamp of the old harbour burns all night, and the captain watches it from his window. " * 4


def blocks(page):
    text, _, _ = read("x.html", page)
    return [" ".join(block.split()) for block in text.split("\n\n") if block.strip()]


@pytest.mark.parametrize(
    "page",
    [
        "<html><head><title>x</title><body><p>One.<p>Two.",
        "<html><head><title>x</title><p>One.<p>Two.</head></html>",
        "<title>x</title><p>One.</p><p>Two.</p>",
        "<HTML><BODY>One.<BR><BR>Two.",
        "<table><tr><td>One.<td><p>" + LONG + "</table><p>Two.",
        "<p>One.</p><script>if (a < b) document.write('<p>no</p>')</script><style>p {}</style><p>Two.",
        "<p>One.<!-- no --><![CDATA[no]]><?php no ?></p><p>Two.",
        "<p><o:p>One.</o:p></p><p>Two.<font><font></p>",
        "<html><head><title>x<body><p>One.<p>Two.",
        "<html><head><style>p {}</head><body><p>One.<p>Two.",
        "<p>One.</p><!-- a --><!-- <p>Two.</p>",
    ],
    ids=[
        "head not closed",
        "p in the head",
        "no html",
        "breaks",
        "layout table",
        "script",
        "comments",
        "prefixes",
        "title open",
        "style open",
        "comment open",
    ],
)
def test_text_that_every_browser_shows(page):
    found = blocks(page)
    assert found[0] == "One." and found[-1] == "Two."


MARKED = {
    "page numbers": '<p>One<span class="pagenum"><a id="p7">[Pg 7]</a></span> two.</p>',
    "line numbers": '<p>One two.<span class="linenum">5</span></p>',
    "note marks": '<p>One<a epub:type="noteref" href="#n1">1</a> two<sup>2</sup>.<a href="#fn3">[3]</a></p>',
    "notes": '<p>One two.</p><aside epub:type="footnote">1. No.</aside><section class="footnotes">2. No.</section>',
    "navigation": '<nav><a href="/">No</a></nav><p>One two.</p><div class="share-buttons"><a href="x">No no</a></div>',
    "tables": "<p>One two.</p><table><tr><td>No<td>12<tr><td>No<td>14</table>",
    "captions": "<p>One two.</p><figure><img src=x><figcaption>No</figcaption></figure>",
    "hidden": '<p>One two.</p><p hidden>No</p><div style="display: none">No</div>',
    "formulas": "<p>One two.<math><mi>n</mi></math></p>",
}


@pytest.mark.parametrize("rule", MARKED)
def test_what_a_page_marks_as_no_text_goes_and_is_counted(rule):
    text, ledger, _ = read("x.html", f"<p>{LONG}</p>{MARKED[rule]}")
    assert " ".join(text.split()).removeprefix(LONG.strip()).strip().replace(" .", ".") == "One two."
    assert set(ledger.counts) == {rule} and ledger.counts[rule] > 0


@pytest.mark.parametrize(
    "page, stays",
    [
        ('<span class="pagenum">a sentence of its own</span>', "a sentence of its own"),
        ('<div class="menu"><p>Soup, then fish, then an old cheese.</p></div>', "Soup, then fish, then an old cheese."),
        ("<p>mc<sup>2</sup> and the 5<sup>th</sup></p>", "mc^2 and the 5th"),
        ("<footer><p>He put the lamp at the foot of his bed, and slept until the morning came.</p></footer>", None),
        ("<p>a &lt; b &amp; c <3 d</p>", "a < b & c <3 d"),
        ("<p>lamp<sup>light of the</sup> night</p>", "lamplight of the night"),
        ("<h2>Of lamps</h2>", f"{HEADING}Of lamps"),
    ],
)
def test_a_mark_alone_is_no_proof(page, stays):
    assert blocks(page) == [stays or page.split("<p>")[1].split("</p>")[0]]


def test_verse_in_lines():
    line = '<div class="verse">The grey wind calls,</div>'
    text, _, _ = read("x", f'<div class="stanza">{line * 3}</div>')
    assert text.strip() == "\n".join(["The grey wind calls,"] * 3)


def test_a_rule_that_would_take_most_of_a_page_takes_nothing():
    text, ledger, _ = read("x", f'<section class="footnotes"><p>{LONG * 3}</p></section><p>One.</p>')
    assert LONG.strip() in " ".join(text.split()) and ledger.spared["notes"] >= len(LONG.strip())
    assert not ledger.counts["notes"]


def test_the_title():
    assert read("x", "<title>On &amp; off</title><p>x")[2] == "On & off"


UNITS = [
    "<a ",
    "<!--",
    "</",
    "<?",
    "<![CDATA[",
    "<p>x",
    "&",
    "<td>x",
    "<script>",
    "<i></b>",
    '<a b="',
    "<font size=1>x",
]


@pytest.mark.parametrize("unit", UNITS)
def test_no_page_takes_for_ever(unit):
    """300 kB of one unit: linear in time. The standard library's parser takes minutes for the first four."""
    started = time.process_time()
    read("x", "<p>One.</p>" + unit * (300_000 // len(unit)))
    assert time.process_time() - started < 5


def test_a_page_nested_without_end_is_refused():
    with pytest.raises(UserError, match=r"x\.html: tags nested more than 1,000 deep"):
        read("x.html", "<div>" * 5_000 + "x")
    assert blocks("<font>" * 5_000 + "One.") == ["One."]  # old pages leave these open
