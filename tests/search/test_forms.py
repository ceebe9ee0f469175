"""Whatever tokens come, a text that is held to a form is of it: it parses, ends by itself, and in time."""

import json
import string

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as some

from juliagpt_jax.data import bpe
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import ENDED
from juliagpt_jax.search import forms
from juliagpt_jax.search.automaton import DEAD, START, build
from juliagpt_jax.search.held import FAR, Form
from juliagpt_jax.search.vocabulary import Vocabulary, token_bytes

SAID = '{"name": "Julia", "age": 29, "tags": ["\\n", "née", "日本"]} true false null yes no maybe 0.5 -12,345'
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["a", "née", 3, None]}, "minItems": 1, "maxItems": 3},
        "more": {"anyOf": [{"type": "number"}, {"type": ["boolean", "null"]}]},
    },
    "required": ["name", "age", "tags", "more"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizers():
    letters = "".join(sorted({*string.printable, *SAID, "é"}))
    return {"char": CharTokenizer(letters), "bpe": bpe.train([SAID * 20, "the age of the name " * 20], 300)}


@pytest.fixture(scope="module")
def vocabularies(tokenizers):
    return {name: Vocabulary(tokenizer) for name, tokenizer in tokenizers.items()}


def write(form: Form, rng, tokens: int) -> tuple[str, bool]:
    """A text of tokens that are drawn from all that are allowed, and whether it ended before its last one."""
    guide, ids = form([np.zeros(1)], tokens), []
    for _ in range(tokens):
        (allowed,) = guide.allowed()
        assert allowed.any(), "a dead end"
        # The more bytes a token has the likelier: multi-byte tokens are what may go wrong.
        weights = allowed * np.array([1.0 + len(text) ** 2 for text in form.vocabulary.texts])
        (token,) = guide.take(rng.choice(len(weights), 1, p=weights / weights.sum()))
        if token == ENDED:
            return b"".join(form.vocabulary.texts[i] for i in ids).decode(), True
        ids.append(token)
    return b"".join(form.vocabulary.texts[i] for i in ids).decode(), False


def schemas(depth: int = 0):
    plain = some.sampled_from([{"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}])
    text = some.builds(lambda most: {"type": "string", "maxLength": most}, some.integers(0, 6))
    values = some.one_of(some.text(max_size=4), some.integers(-99, 99), some.booleans(), some.none())
    choice = some.builds(lambda own: {"enum": own}, some.lists(values, min_size=1, max_size=3))
    flat = some.one_of(plain, text, choice)
    if depth == 2:
        return flat
    inner = some.deferred(lambda: schemas(depth + 1))
    items = some.builds(
        lambda own, least, more: {"type": "array", "items": own, "minItems": least, "maxItems": least + more},
        *(inner, some.integers(0, 2), some.integers(0, 2)),
    )
    members = some.dictionaries(some.text(max_size=4), inner, max_size=3)
    objects = some.builds(lambda own: {"type": "object", "properties": own, "required": [*own]}, members)
    return some.one_of(
        flat, items, objects, some.builds(lambda own: {"anyOf": own}, some.lists(inner, min_size=1, max_size=2))
    )


@pytest.mark.parametrize("kind", ["char", "bpe"])
@hypothesis.settings(max_examples=80)
@hypothesis.given(schema=schemas(), seed=some.integers(0, 2**32 - 1), spare=some.integers(0, 60))
def test_every_text_is_json_of_its_schema(vocabularies, kind, schema, seed, spare):
    jsonschema = pytest.importorskip("jsonschema")
    automaton = forms.begun(forms.of_schema(schema))
    try:
        form = Form(automaton, vocabularies[kind])
    except UserError:
        assert kind == "char", "the bytes write everything"
        return
    rng = np.random.default_rng(seed)
    for _ in range(14):
        text, _ = write(form, rng, int(form.left[START]) + spare)
        jsonschema.validate(json.loads(text), schema)
        assert automaton.accepts(text)


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_numbers_and_labels(vocabularies, kind):
    rng, vocabulary = np.random.default_rng(0), vocabularies[kind]
    number = Form(forms.form("number"), vocabulary)
    written = {write(number, rng, tokens)[0] for tokens in (1, 2, 3, 9) for _ in range(300)}
    assert all(abs(float(text)) < 10**15 and json.loads(text) == float(text) for text in written)
    assert len(written) > 60 and any("." in text for text in written) and any("-" in text for text in written)
    whole = Form(forms.form("integer"), vocabulary)
    assert all(
        str(int(text)) == text.strip() or text.strip() == "-0" for text in (write(whole, rng, 9)[0] for _ in range(300))
    )
    labels = Form(forms.form("labels:yes,no,nor,née"), vocabulary)
    found = [write(labels, rng, 8) for _ in range(300)]
    assert {"yes", "no", "née"} <= {text.strip() for text, _ in found} <= {"yes", "no", "nor", "née"}
    assert all(ended for _, ended in found), "it ends by itself"


def test_a_token_is_looked_at_to_its_last_byte(vocabularies):
    """`": ` may come behind a key, and not where its blank is one too many."""
    vocabulary = vocabularies["bpe"]
    automaton = build(
        forms.of_schema({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]})
    )
    form = Form(automaton, vocabulary)
    state = START
    for byte in b'{"age':
        state = int(automaton.table[state, byte])
    allowed = {vocabulary.texts[i] for i in np.flatnonzero(form.allowed(state, 50))}
    assert {b'"'} < allowed <= {b'"', b'":', b'": '}, allowed
    for text, after in zip(vocabulary.texts, form.next(state), strict=True):
        at = state
        for byte in text:
            at = automaton.table[at, byte]
        assert after == (at if text else DEAD)


def test_it_ends_in_time(vocabularies):
    """With the fewest tokens that do, every text is whole; with fewer none is begun."""
    form = Form(forms.begun(forms.of_schema(PERSON)), vocabularies["char"])
    least = int(form.left[START])
    assert least == len('{"name":"","age":0,"tags":[3],"more":0}')
    rng = np.random.default_rng(1)
    assert all(json.loads(write(form, rng, least)[0])["name"] == "" for _ in range(20))
    with pytest.raises(UserError, match=f"max_new_tokens={least - 1}"):
        form([np.zeros(1)], least - 1)


def test_what_the_tokenizer_lacks_is_said():
    with pytest.raises(UserError, match="lacks characters"):
        Form(forms.form("number"), Vocabulary(CharTokenizer("abc")))
    digits = Form(forms.form("number"), Vocabulary(CharTokenizer("0123456789")))
    assert (digits.left[digits.automaton.table[START, ord("-")]]) < FAR
    assert not digits.allowed(START, 5).any() or digits.allowed(START, 5).all(), "no sign, no point"


@pytest.mark.parametrize(
    "schema, says",
    [
        (3, "a schema is an object"),
        ({"type": "text"}, "no type is called 'text'"),
        ({"type": "string", "pattern": "a+"}, "'pattern' is not supported"),
        ({"type": "integer", "maxLength": 3}, "'maxLength' says nothing beside type"),
        ({"type": "object", "properties": {"a": {"type": "null"}}}, "required must name every one"),
        ({"type": "array"}, "needs items"),
        ({"enum": []}, "at least one"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "not above the second"),
        ({"description": "all"}, "needs a type"),
    ],
)
def test_a_schema_that_is_not_supported_is_refused(schema, says):
    with pytest.raises(UserError, match=says):
        forms.of_schema(schema)


def test_a_schema_without_end_is_refused():
    deep = {"type": "integer"}
    for _ in range(6):
        deep = {"type": "array", "items": deep}
    with pytest.raises(UserError, match="more than 20,000 states"):
        forms.begun(forms.of_schema(deep))


@pytest.mark.parametrize("word", ["numbers", "number:3", "labels:", "labels:a,,b", "json:", "json:nowhere.json"])
def test_a_grammar_that_is_none_is_refused(word):
    with pytest.raises(UserError):
        forms.form(word)


def test_the_bytes_of_tokens_are_what_the_tokenizer_makes_of_them(tokenizers):
    for tokenizer in tokenizers.values():
        texts, ids = token_bytes(tokenizer), tokenizer.encode(SAID)
        assert b"".join(texts[i] for i in ids).decode() == SAID
        assert len(texts) == tokenizer.vocab_size
    assert not any(token_bytes(tokenizers["bpe"])[i] for i in tokenizers["bpe"].special.values())
