"""One decoding loop: with a guide it writes what it writes without, but for what the guide says; many answers to a
prompt are drawn each for itself, end where they should and are scored as a forward pass scores them."""

import json
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data import chat
from juliagpt_jax.data.examples import rows
from juliagpt_jax.data.library import LibraryTokenizer
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference import judging
from juliagpt_jax.inference.generate import ENDED, Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.stops import stream_texts
from juliagpt_jax.models.build import build_model
from juliagpt_jax.search import forms, revising, verifying
from juliagpt_jax.search.calculator import Calculator
from juliagpt_jax.search.held import Form
from juliagpt_jax.search.revising import Held
from juliagpt_jax.search.vocabulary import Vocabulary
from juliagpt_jax.search.writing import Writer
from juliagpt_jax.training.state import initial_state

LETTERS, SLOTS = "".join(sorted('\n "+,-.0123456789:<=>abcn{}')), 64
SAMPLED = Rule(temperature=1.5)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string", "maxLength": 3}},
          "required": ["a", "b"]}  # fmt: skip


@pytest.fixture(scope="module")
def opened(tiny):
    config = tiny("model.width=16", "model.layers=1", f"model.context={SLOTS}", "model.tie=false", "seed=0")
    model = build_model(config, len(LETTERS))
    params = jax.jit(lambda: initial_state(config, model).params)()
    params = jax.tree.map(lambda p: p * 3 if p.ndim == 2 else p, params)
    return types.SimpleNamespace(model=model, params=params, tokenizer=CharTokenizer(LETTERS), stops=())


@pytest.fixture(scope="module")
def generator(opened):
    return Generator(opened.model, opened.params)


class Free:
    """A guide that says nothing."""

    def __init__(self, prompts, new_tokens):
        self.rows = len(prompts)

    def allowed(self):
        return np.ones((self.rows, len(LETTERS)), bool)

    def take(self, tokens):
        return tokens


def texts(generator, opened, prompts, tokens, guided, stops=()):
    ids = [opened.tokenizer.encode(prompt) for prompt in prompts]
    pieces = list(stream_texts(generator, opened.tokenizer, ids, tokens, SAMPLED, 0, stops, (), guided))
    return ["".join(piece[row][0] for piece in pieces) for row in range(len(ids))], [end for _, end in pieces[-1]]


def test_a_guide_that_says_nothing_changes_nothing(generator, opened):
    """Past the context, too; and without a guide no further program is compiled."""
    prompts = ["abc", "c" * 30]
    plain = texts(generator, opened, prompts, 150, None)
    counted = generator.compilations
    assert counted["decode"] == 1
    assert texts(generator, opened, prompts, 150, Free) == plain
    assert generator.compilations == counted | {"decode": 2}
    assert texts(generator, opened, prompts, 150, None) == plain and generator.compilations["decode"] == 2


def test_rows_are_held_to_a_form(generator, opened):
    vocabulary = Vocabulary(opened.tokenizer)
    form = Form(forms.begun(forms.of_schema(SCHEMA)), vocabulary)
    written, ended = texts(generator, opened, ["a", "bb"], 50, form)
    assert ended == [True, True]
    for text in written:
        found = json.loads(text)
        assert list(found) == ["a", "b"] and type(found["a"]) is int and len(found["b"]) <= 3
    free, _ = texts(generator, opened, ["a", "bb"], 50, None)
    assert not any(text.startswith("{") for text in free)
    streamed = list(generator.stream([opened.tokenizer.encode("a")], 50, SAMPLED, guided=form))
    ids = np.concatenate(streamed, axis=1)[0]
    first = ids.tolist().index(ENDED)
    assert opened.tokenizer.decode(ids[:first]) == written[0] and (ids[first:] == ENDED).all()


def test_the_calculator_fills_in(generator, opened):
    calculator = Calculator(opened.tokenizer)
    (filled, plain), _ = texts(generator, opened, ["b<<12+30=", "b<<12+30"], 20, calculator)
    assert filled.startswith("42>>")
    assert plain == texts(generator, opened, ["b<<12+30"], 20, None)[0][0] or "=" in plain


def test_answers_are_drawn_each_for_itself(opened):
    """They do not depend on how many are written at a time, end before the stop, and have the likelihood that a
    forward pass gives them."""
    prompts = ["a+", "1", "cab"]
    few, many = (Writer(opened, SAMPLED, 40, ("\n", "b"), rows=rows) for rows in (6, 12))
    answers = many.write(prompts, 6, seed=3)
    assert [[own.text for own in row] for row in few.write(prompts, 6, seed=3)] == [
        [own.text for own in row] for row in answers
    ]
    flat = [own for row in answers for own in row]
    assert len({own.text for own in flat}) > 9, "they differ"
    assert sum(own.ended for own in flat) > 9
    for own in flat:
        assert "\n" not in own.text and "b" not in own.text
        assert own.tokens == len(own.prompt) + len(own.text) + own.ended
        assert opened.tokenizer.decode(own.ids)[: len(own.text)] == own.text
    more = few.write(prompts, 8, seed=3)  # more than are written at a time
    assert [[own.text for own in row[:6]] for row in more] == [[own.text for own in row] for row in answers]
    assert all(len(row) == 8 for row in more) and any(row[6].text != row[0].text for row in more)
    scores = many.log_likelihoods(flat)
    for own, score in list(zip(flat, scores, strict=True))[:1]:
        ids = np.concatenate([own.prompt, own.ids])
        logits = opened.model.apply({"params": opened.params}, jnp.asarray(ids[None, :-1]))[0]
        logs = jax.nn.log_softmax(logits[0].astype(jnp.float32))[np.arange(len(ids) - 1), ids[1:]]
        np.testing.assert_allclose(score, float(logs[len(own.prompt) - 1 :].sum()), rtol=1e-4)


def test_a_prompt_without_room_is_refused(opened):
    with pytest.raises(UserError, match="more than the model's context of 64"):
        Writer(opened, SAMPLED, 40).write(["a" * 30], 1, 0)


@pytest.fixture(scope="module")
def talking(tiny):
    """A model with a chat template; the id 2 ends its turns, behind which the template writes a line's end."""
    folder = Path(__file__).parents[1] / "golden" / "chat"
    content, cases = (json.loads((folder / name).read_text()) for name in ("tokenizer.json", "cases.json"))
    tokenizer = LibraryTokenizer(content, 300, 1, {"eos": 2}, (), cases["template"])
    config = tiny("model.width=16", "model.layers=1", "model.context=192", "model.tie=false", "seed=0")
    model = build_model(config, 300)
    params = jax.jit(lambda: initial_state(config, model).params)()
    return types.SimpleNamespace(model=model, params=params, tokenizer=tokenizer, stops=tokenizer.stops)


def test_answers_in_a_conversation(talking):
    """What a user says stands in the template; an answer that is begun goes on behind its last token."""
    user = lambda text: chat.encode(talking.tokenizer, [{"role": "user", "content": text}])
    writer = Writer(talking, SAMPLED, 9, rows=2, as_chat=True)
    ((first, second),) = writer.write([" 1+2= "], 2, 0)
    np.testing.assert_array_equal(first.prompt, user("1+2="))
    assert first.text != second.text and len(first.ids) <= 9
    ((begun,),) = writer.write(["1+2="], 1, 0, ["<<1+"])
    np.testing.assert_array_equal(begun.prompt, [*user("1+2="), *talking.tokenizer.encode("<<1+")])


@pytest.mark.parametrize("asked", ["1+2=", [{"role": "user", "content": "1+2="}]], ids=["prompt", "messages"])
def test_a_verifier_is_asked_in_a_conversation_where_it_was_taught(talking, asked):
    """Behind the id that ends a turn, and not behind what the template writes after it."""
    form = rows.Form(talking.tokenizer, (2,), chat=isinstance(asked, str))
    judge = judging.Judge(talking, form)
    prompt = chat.encode(talking.tokenizer, [{"role": "user", "content": "1+2="}]).tolist()
    (whole,), (begun,) = judge.ids([asked], ["3"]), judge.ids([asked], ["3"], whole=False)
    three = talking.tokenizer.encode("3").tolist()
    assert whole.tolist() == [*prompt, *three, 2] and begun.tolist() == [*prompt, *three]
    encoded = rows.Form(talking.tokenizer, (2,), chat=True).encode(Example("1+2=", "3"))
    assert len(encoded.ids) > len(whole), "the template writes something behind an answer"
    assert np.flatnonzero(encoded.learned)[-1] == len(whole) - 1


def test_what_is_doubted_is_written_anew(opened):
    """Steps that a verifier believes in stay, the best is kept, and what it does not doubt is not touched."""
    asked = []

    def verify(prompts, texts, whole=True):
        asked.append([prompt + text for prompt, text in zip(prompts, texts, strict=True)])
        return np.array([0.2 if "c" in text else 0.9 for text in texts])

    writer = Writer(opened, SAMPLED, 30, ("\n",), rows=8)
    prompts = ["1:", "2:", "3:"]
    held = [Held("a b", 0.9), Held("a b c a", 0.2), Held("c b", 0.2)]
    after = revising.revise(writer, verify, prompts, held, 8, 0.5, seed=1)
    assert after[0] == held[0]
    assert asked[0] == ["2:a ", "2:a b ", "2:a b c ", "3:c "], "beginnings of what is doubted"
    assert all(text.startswith(("2:a b ", "3:")) for text in asked[1]) and len(asked[1]) == 16
    for own, before in zip(after[1:], held[1:], strict=True):
        assert own.read > 8 and own.judged > 0
        assert own.score >= before.score and (own.score > before.score or own.text == before.text)
    assert after[1].text.startswith("a b ")
    assert any(own.score == 0.9 for own in after[1:]), "something better was found"
    nothing = revising.revise(writer, verify, prompts[:1], held[:1], 8, 0.5, seed=1)
    assert nothing == held[:1]


def test_the_steps_of_an_answer():
    assert revising.begun("<<1+2=3>><<3+4=7>>7") == ["<<1+2=3>>", "<<1+2=3>><<3+4=7>>"]
    assert revising.begun("forty and one") == ["forty ", "forty and "]
    assert revising.begun("41") == []


def test_a_verifier_is_asked_behind_the_end_of_what_is_whole(opened):
    """And behind the last token of what is begun."""
    judge = judging.Judge(opened, rows.Form(opened.tokenizer, (0,)))
    verify = verifying.Verifier(judge)
    odds = lambda text: opened.model.apply({"params": opened.params}, jnp.asarray(ids(text), jnp.int32))[0][0, -1]
    ids = lambda text: opened.tokenizer.encode(text)[None]
    for whole, read in [(True, "\n1+2=3\n"), (False, "\n1+2=3")]:
        (score,) = verify(["1+2="], ["3"], whole=whole)
        logits = odds(read)
        np.testing.assert_allclose(score, 1 / (1 + np.exp(logits[0] - logits[1])), rtol=1e-3)
    assert len(verify([], [])) == 0
    fits, long = verify(["1=", "1="], ["2", "2" * SLOTS])
    assert fits == verify(["1="], ["2"]) and long == 0.0
