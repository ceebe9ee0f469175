"""The calculator takes over where an expression ends and nowhere else."""

import numpy as np
import pytest

from juliagpt_jax.data import bpe
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.search.calculator import Calculator

LETTERS = "".join(sorted(set("0123456789+-*/.,()<>= \nabc")))


def written(tokenizer, prompt: str, meant: str) -> str:
    """What comes of a model that means to write a text, in tokens as long as may be, and goes on in it behind each
    result."""
    calculator = Calculator(tokenizer)
    guide, said, rest = calculator([tokenizer.encode(prompt)], 99), b"", meant.encode()
    while True:
        (allowed,) = guide.allowed()
        told = allowed.sum() == 1
        fitting = [
            i for i, text in enumerate(calculator.vocabulary.texts) if allowed[i] and text and rest.startswith(text)
        ]
        if not told and not rest:
            return said.decode()
        token = np.flatnonzero(allowed)[0] if told else max(fitting, key=lambda i: len(calculator.vocabulary.texts[i]))
        (token,) = guide.take(np.array([token]))
        said += calculator.vocabulary.texts[token]
        rest = rest if told else rest[len(calculator.vocabulary.texts[token]) :]


@pytest.mark.parametrize(
    "prompt, meant, comes",
    [
        ("", "a<<2+3=b<<5*4=c", "a<<2+3=5>>b<<5*4=20>>c"),
        ("b <<12/5=", "aa", "2.4>>aa"),
        ("<<1", "+1= a", "+1=2>> a"),
        ("", "<<2/3=a", "<<2/3=0.666667>>a"),
        ("", "<<1/0=ab", "<<1/0=ab"),
        ("", "2+3=a<<a=b", "2+3=a<<a=b"),
        ("", "<<<2=a", "<<<2=2>>a"),
    ],
)
@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_results_are_filled_in(kind, prompt, meant, comes):
    tokenizer = CharTokenizer(LETTERS) if kind == "char" else bpe.train(["<<2+3=5>> <<12+30=42>> =b =5" * 20], 290)
    assert written(tokenizer, prompt, meant) == comes


def test_no_token_passes_over_the_sign():
    """A token with more behind the = would come with a result of the model's own."""
    tokenizer = bpe.train(["a=-5 " * 50, "2=-5 " * 50], 300)
    calculator = Calculator(tokenizer)
    texts = calculator.vocabulary.texts
    assert any(b"=" in text[:-1] for text in texts)
    guide = calculator([tokenizer.encode("<<2")], 8)
    (allowed,) = guide.allowed()
    assert not any(b"=" in text[:-1] for text, own in zip(texts, allowed, strict=True) if own)
    assert allowed[texts.index(b"=")]
    (free,) = calculator([tokenizer.encode("2")], 8).allowed()
    assert free.all()


def test_a_tokenizer_without_its_signs_is_refused():
    with pytest.raises(UserError, match="needs the signs"):
        Calculator(CharTokenizer("0123456789"))
