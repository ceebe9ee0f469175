"""Texts end before their stops, however they come in pieces, and nothing that belongs to a stop is ever shown."""

import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference import stops as stops_of
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.stops import Cutter, stream_texts

letters = lambda low, high: st.text(st.sampled_from("ab\n"), min_size=low, max_size=high)


def naive(text: str, stops: list[str]) -> tuple[str, bool]:
    """The first end of a stop, found by looking at every beginning of the text."""
    for end in range(1, len(text) + 1):
        here = [stop for stop in stops if text[:end].endswith(stop)]
        if here:
            return text[: end - max(map(len, here))], True
    return text, False


@given(
    pieces=st.lists(letters(0, 4), max_size=12),
    stops=st.lists(letters(1, 4), max_size=3),
)
def test_cutter(pieces, stops):
    """Each piece shown is part of the result at once: what is shown is never taken back."""
    cutter, shown, came = Cutter(stops), "", ""
    wanted, stopped = naive("".join(pieces), stops)
    for piece in pieces:
        shown += cutter.push(piece)
        came += piece
        assert wanted.startswith(shown)
        # Held back is no more than the beginning of a stop.
        assert cutter.stopped or any(stop.startswith(came[len(shown) :]) for stop in [*stops, ""])
    assert cutter.stopped == stopped
    assert shown + cutter.end() == wanted and cutter.end() == ""


def test_an_empty_stop_is_refused():
    with pytest.raises(UserError, match="empty"):
        Cutter(["x", ""])


class Written:
    """A generator of texts that are known, some characters at a time, which counts how often it is asked."""

    model = types.SimpleNamespace(encodes=False)

    def __init__(self, texts: list[str], tokenizer: CharTokenizer, size: int):
        self.tokens, self.size, self.asked = [tokenizer.encode(text) for text in texts], size, 0

    def stream(self, prompts, new_tokens, rule, seed, guided=None):
        for at in range(0, new_tokens, self.size):
            self.asked += 1
            yield np.stack([tokens[at : at + self.size] for tokens in self.tokens])


@pytest.mark.parametrize("size", [1, 3, 8])
def test_rows_stop_by_themselves_and_the_loop_ends_with_the_last(size):
    tokenizer = CharTokenizer(".abc")
    texts = ["ab.cabca", "abcabca.", "..aaaaaa", "abcabcab"]
    for count, most in [(3, 8), (1, 3)]:
        generator = Written(texts[:count], tokenizer, size)
        rows = [tokenizer.encode("c")] * count
        came = list(stream_texts(generator, tokenizer, rows, 8, Rule(), 0, [".", "ca."]))  # pyright: ignore
        joined = ["".join(piece[row][0] for piece in came) for row in range(count)]
        assert joined == ["ab", "abcab", ""][:count]
        assert all(end for _, end in came[-1])
        assert generator.asked == -(-most // size), "asked until the last row has met its stop, no more"
    generator = Written(texts, tokenizer, size)
    came = list(stream_texts(generator, tokenizer, [tokenizer.encode("c")] * 4, 8, Rule(), 0, ["..", "abca."]))  # pyright: ignore
    assert ["".join(piece[row][0] for piece in came) for row in range(4)] == ["ab.cabca", "abc", "", "abcabcab"]
    assert [end for _, end in came[-1]] == [False, True, True, False]


@pytest.mark.parametrize("size", [1, 3, 8])
def test_rows_end_before_the_token_that_ends_a_text(size):
    """Nothing of that token shows, nor of what is drawn behind it; what a stop held back is text after all."""
    tokenizer = CharTokenizer(".abc")
    texts, stops, end = (
        ["ab.cabca", "abca.bca", "..aaaaaa", "abcabcab"],
        ["ca.", "bcab"],
        tokenizer.encode(".").tolist(),
    )
    prompt = tokenizer.encode("c.")  # one that stands in a prompt ends nothing
    generator = Written(texts, tokenizer, size)
    came = list(stream_texts(generator, tokenizer, [prompt] * 4, 8, Rule(), 0, stops, end))  # pyright: ignore
    assert ["".join(piece[row][0] for piece in came) for row in range(4)] == ["ab", "abca", "", "a"]
    assert [met for _, met in came[-1]] == [True] * 4
    assert generator.asked == -(-5 // size), "asked until the last row has ended, no more"
    generator = Written(texts, tokenizer, size)
    came = list(stream_texts(generator, tokenizer, [prompt] * 4, 8, Rule(), 0))  # pyright: ignore
    assert ["".join(piece[row][0] for piece in came) for row in range(4)] == texts


def test_a_whole_text_is_cut_as_it_is_while_it_is_written():
    """At the stop that is complete first, of several at once at the longest: as a `Cutter` cuts its pieces."""
    for text, stops, rest in [
        ("one two", ["two"], "one "),
        ("one two", ["three"], "one two"),
        ("one two", [], "one two"),
        ("abcd", ["abcd", "b"], "a"),
        ("abc", ["bc", "abc", "c"], ""),
    ]:
        assert stops_of.cut(text, stops) == rest
        cutter = Cutter(stops)
        assert "".join([*map(cutter.push, text), cutter.end()]) == rest
