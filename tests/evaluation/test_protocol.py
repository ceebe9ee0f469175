"""The protocol in one line, of characters and of tokens."""

import hashlib
import json
import math

import numpy as np
import pytest

from juliagpt_jax.data.counts import TextCounts
from juliagpt_jax.data.tokenizer import CharTokenizer, LibraryTokenizer, digest
from juliagpt_jax.evaluation import protocol
from juliagpt_jax.inference.scoring import Score, summed

TEXT = "a <unk> b <unk>\n"


def test_of_characters():
    tokenizer = CharTokenizer.train("ab \n")
    tokens = tokenizer.encode("ab a\n")
    score = summed(np.ones(5), np.arange(5), tokens, 16, 8, tokenizer)
    digest = hashlib.sha256(b"ab a\n").hexdigest()[:12]
    assert protocol.line(score, tokens, tokenizer, "val.txt") == (
        "5 characters (3 words and line ends, 5 bytes), each scored once, context 16, stride 8; "
        f"val.txt, SHA-256 {digest}; 4 different characters"
    )


def words(vocab: list[str]) -> LibraryTokenizer:
    """A library's tokenizer of whole pieces, the longest first; what is none of them is spelled."""
    tokenizers = pytest.importorskip("tokenizers")
    letters = sorted(set("".join(vocab)))
    model = tokenizers.models.Unigram([(piece, -1.0 if len(piece) > 1 else -5.0) for piece in [*letters, *vocab]])
    library = tokenizers.Tokenizer(model)
    library.decoder = tokenizers.decoders.Fuse()
    return LibraryTokenizer(json.loads(library.to_str()), library.get_vocab_size(), None)


@pytest.mark.parametrize("vocab, says", [(["<unk>", "ab \n"], "one token each"), (["<unk", "ab >\n"], "2 tokens each")])
def test_says_what_becomes_of_unknown_words(vocab, says):
    tokenizer = words(vocab)
    tokens = tokenizer.encode(TEXT)
    whole = summed(np.ones(len(tokens)), np.arange(len(tokens)), tokens, 16, 8, tokenizer)
    line = protocol.line(whole, tokens, tokenizer, "t")
    assert f"{len(tokens)} tokens (5 words and line ends, {len(TEXT)} bytes)" in line
    assert f"different tokens ({digest(tokenizer)[:12]}), <unk> 2 times, {says}" in line
    part = summed(np.ones(2), np.arange(2), tokens, 16, 8, tokenizer)
    assert f"2 of {len(tokens)} tokens, evenly spread (" in protocol.line(part, tokens, tokenizer, "t")


def test_units_of_a_score():
    score = Score(2.0, 30, 16, 8, TextCounts(characters=60, bytes=75, words=12))
    assert score.perplexity == pytest.approx(math.exp(2)) and score.word_perplexity == pytest.approx(math.exp(5))
    assert score.bpc == pytest.approx(1 / math.log(2)) and score.bpb == pytest.approx(0.8 / math.log(2))
    assert math.isinf(Score(2.0, 10**6, 16, 8, TextCounts(1, 1, 1)).word_perplexity)
    assert math.isnan(Score(2.0, 30, 16, 8, TextCounts(0, 0, 0)).bpb) and math.isnan(Score(2.0, 30, 16, 8).bpc)
