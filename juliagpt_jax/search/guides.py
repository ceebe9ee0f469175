"""From what a command or a client asks for to what has a say in its texts."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Guided
from juliagpt_jax.search import forms
from juliagpt_jax.search.automaton import Automaton
from juliagpt_jax.search.calculator import Calculator
from juliagpt_jax.search.held import Form
from juliagpt_jax.search.vocabulary import Vocabulary

SHAPES = "text, json_schema or grammar"  # types of `response_format`
vocabulary = functools.lru_cache(2)(Vocabulary)  # of a tokenizer: with 50,000 tokens it takes a second


def guided(tokenizer: Tokenizer, form: Automaton | None, calculator: bool, says: str = "this form") -> Guided | None:
    """Return what begins the guide of rows; None where nothing is asked for.

    Raises:
        UserError: the tokenizer lacks what it needs.
    """
    if form is not None:
        return Form(form, vocabulary(tokenizer), says)
    return _calculator(tokenizer) if calculator else None


def answering(tokenizer: Tokenizer, response_format: Any, calculator: bool) -> Guided | None:
    """Return `guided` for a client's `response_format`, as OpenAI's API has it: {"type": "json_schema", "json_schema":
    {"schema": ...}}; here also {"type": "grammar", "grammar": "labels:yes,no"}, a word of `forms.form` but json.

    Raises:
        UserError: it is none, or not supported; or as `guided`.
    """
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if response_format is None or response_format == {"type": "text"}:
        return _calculator(tokenizer) if calculator else None
    if calculator:
        raise UserError("calculator does not go with response_format: a form says already what may be written")
    if kind == "grammar" and isinstance(word := response_format.get("grammar"), str):
        if word.partition(":")[0] == "json":
            raise UserError('a JSON schema is asked for by {"type": "json_schema"}')
        return _form(tokenizer, word, False)
    if kind == "json_schema" and isinstance(asked := response_format.get("json_schema"), Mapping):
        if "schema" not in asked:
            raise UserError("json_schema has no schema")
        return _form(tokenizer, json.dumps(asked["schema"]), True)
    if kind == "json_object":
        raise UserError("json_object is JSON without end: give its json_schema")
    raise UserError(f"type must be {SHAPES}, with what it needs beside it")


_calculator = functools.lru_cache(2)(lambda tokenizer: Calculator(tokenizer, vocabulary(tokenizer)))


@functools.lru_cache(16)
def _form(tokenizer: Tokenizer, asked: str, schema: bool) -> Form:
    form = forms.begun(forms.of_schema(json.loads(asked))) if schema else forms.form(asked)
    return Form(form, vocabulary(tokenizer), "the form that is asked for")
