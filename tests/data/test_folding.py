"""A prompt in letters that the tokenizer has otherwise."""

import pytest

from juliagpt_jax.data import folding
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError

SMALL = CharTokenizer.train("the river of an old école, and so on.\n")
DECOMPOSED = CharTokenizer.train("the e\u0301cole\n")


@pytest.mark.parametrize(
    "tokenizer, text, wanted",
    [
        (SMALL, "The OLD River", "the old river"),
        (SMALL, "É", "é"),
        (SMALL, "e\u0301cole", "école"),  # two characters for one
        (SMALL, "E\u0301", "é"),
        (SMALL, "river\u00a0of", "river of"),  # a blank that does not break
        (DECOMPOSED, "école", "e\u0301cole"),
        (DECOMPOSED, "École", "e\u0301cole"),
        (CharTokenizer.train("THE"), "the", "THE"),
        (SMALL, "river", "river"),
    ],
)
def test_a_text_in_letters_that_are_there(tokenizer, text, wanted):
    assert folding.fold(tokenizer, text)[0] == wanted
    assert tokenizer.decode(folding.encode(tokenizer, text, "fold")) == wanted


def test_what_is_known_stays():
    """Only the character that is lacking is written anew."""
    both = CharTokenizer.train("aAbe\u0301é")
    assert folding.fold(both, "AaB e\u0301é")[0] == "Aab e\u0301é"


@pytest.mark.parametrize(
    "tokenizer, text, says",
    [
        (SMALL, "The", r"'T' \(U\+0054\); it has them as small letters, which --unknown=fold takes; --unknown=skip"),
        (DECOMPOSED, "é", r"'é' \(U\+00E9\); it has them decomposed \(NFD\), which --unknown=fold"),
        (SMALL, "e\u0301", r"U\+0301\); it has them composed \(NFC\), which"),
        (SMALL, "4", r"'4' \(U\+0034\); --unknown=skip"),
    ],
)
def test_a_refusal_names_the_way_out(tokenizer, text, says):
    with pytest.raises(UserError, match=says):
        folding.encode(tokenizer, text, "error")


def test_what_cannot_be_folded_is_refused_and_skipped():
    with pytest.raises(UserError, match=r"lacks: '4' \(U\+0034\); --unknown=skip"):
        folding.encode(SMALL, "The 4", "fold")
    assert SMALL.decode(folding.encode(SMALL, "The 4", "skip")) == "he "
