"""Any text to the alphabet; numbers as they are read; what a reader would stumble over, gone."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from juliagpt_jax.books import numerals
from juliagpt_jax.books.cleaner import ALPHABETS, Changes, clean, small


def plain(text):
    return small(clean(text), "plain")


@settings(max_examples=300)
@given(st.text(max_size=120), st.sampled_from(sorted(ALPHABETS)))
@example("\u2460\u00b2 \ufb01 \ud800 \x00 \u202e 1\u2044 \u0130", "plain")
@example("\u0663\u0664 9" * 8, "plain")
@example("\u0663/\u0664 \u00bd\u00bd", "full")
def test_the_result_is_in_the_alphabet_whatever_comes(text, alphabet):
    result = small(clean(text, alphabet), alphabet)
    assert set(result) <= ALPHABETS[alphabet], set(result) - ALPHABETS[alphabet]
    assert "  " not in result and result == result.strip()


@settings(max_examples=200)
@given(st.text("abcXVI 12.,;:?!'\"-()/[]_", max_size=60))
def test_clean_text_stays_as_it_is(text):
    once = plain(text)
    assert plain(plain(once)) == plain(once)


WORD = st.from_regex(r"[a-z]{3,9}", fullmatch=True).filter(lambda word: numerals.roman(word) is None)


@given(st.lists(WORD, min_size=1, max_size=12))
def test_words_pass_unchanged(found):
    text = " ".join(found) + "."
    assert plain(text) == text


@pytest.mark.parametrize(
    "text, result",
    [
        ("the soul\u2014and the body\u2014are", "the soul - and the body - are"),
        ("in general-as changes of out-of-the-way things", "in general - as changes of out-of-the-way things"),
        ("\u201cNa\u00efve c\u0153ur,\u201d he said\u2026 \u2018so\u2019", "\"naive coeur,\" he said... 'so'"),
        ("\u00e2\u20ac\u0153hello\u00e2\u20ac\u009d it\u00e2\u20ac\u2122s", '"hello" it\'s'),
        ("the _Ethics_, =bold= and Ethic_s_", "the ethics, bold and ethics"),
        ("\u03bb\u03cc\u03b3\u03bf\u03c2 and the angle \u03b1", "logos and the angle alpha"),
        ("virtue (see Rep. v. 473) is one (Metaph. i. 6; Phys. ii. 3)", "virtue is one"),
        ("virtue (Compare Phaedo.) is (I think) one", "virtue (compare phaedo.) is (i think) one"),
        ("we must say (1) what it is and (b) why", "we must say what it is and why"),
        ("equal (Def. 3) to it [I. viii.], q.e.d.", "equal to it, q.e.d."),
        ("bread & butter, &c.", "bread and butter, etc."),
        ("AB^2 + BC^2 = AC^2", "ab squared plus bc squared equals ac squared"),
        ("a/b and 1/2 and/or", "a over b and one half and or or"),
        (".'. all men; it costs \u00a312 or 5%", "therefore all men; it costs twelve pounds or five percent"),
        ("Prop. XI., as in fig. 3; Cor. 2.--If", "proposition eleven, as in figure three; corollary two. - if"),
        ("first. . . . And then , so ;", "first... and then, so;"),
        ("illustration- the sun; spice- and bowl", "illustration - the sun; spice- and bowl"),
    ],
)
def test_what_a_reader_would_stumble_over(text, result):
    assert plain(text) == result


@pytest.mark.parametrize(
    "text, result",
    [
        ("In 1651 he had 1,066 men", "in sixteen fifty-one he had one thousand and sixty-six men"),
        (
            "in the Years 1669, 1670 see Fig. 4. be a line.",
            "in the years sixteen sixty-nine, sixteen seventy see figure four be a line.",
        ),
        (
            "pages 12-14, 1850-60, 5-1/3",
            "pages twelve to fourteen, eighteen fifty to sixty, five and one third",
        ),
        ("1651 men", "one thousand six hundred and fifty-one men"),
        ("5-1/3 inches, 2 3/4 feet, 7/8", "five and one third inches, two and three quarters feet, seven eighths"),
        ("the 23rd and 3d of 2.5", "the twenty-third and third of two point five"),
        ("Book IV, chap. xii of part 2", "book four, chapter twelve of part two"),
        ("Charles II and Louis XIV; I and V", "charles the second and louis the fourteenth; i and v"),
        ("Every X is Y, in this case I say", "every x is y, in this case i say"),
        ("XIV. and viii, but civil mix, I did", "fourteen. and eight, but civil mix, i did"),
        ("1/2430000 " + "9" * 20, "one over two million four hundred and thirty thousand " + " ".join(["nine"] * 20)),
    ],
)
def test_numbers_in_words(text, result):
    assert plain(text) == result


def test_full_keeps_capitals_and_figures():
    assert clean("In 1651 Charles II saw 3/4 \u2014 \u201cso\u201d", "full") == 'In 1651 Charles II saw 3 over 4 - "so"'


@given(st.integers(1, 3_999))
def test_roman_numerals(number):
    values = [1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1]
    text, left = "", number
    for value, sign in zip(values, "M CM D CD C XC L XL X IX V IV I".split(), strict=True):
        text, left = text + sign * (left // value), left % value
    assert numerals.roman(text) == numerals.roman(text.lower()) == number


@pytest.mark.parametrize("text", ["", "IIII", "IC", "VX", "ABC", "mild"])
def test_what_is_no_roman_numeral(text):
    assert numerals.roman(text) is None


def test_changes_are_counted():
    """Of 8 letters and a figure the figure goes, and "three" comes; white space and capitals do not count."""
    changes = Changes()
    clean("We saw  3 men*", "plain", changes)
    assert (changes.seen, changes.lost, changes.added) == (10, 2, 5)
