"""Answers of a model, held to lm-evaluation-harness's way of asking and to one forward pass a token."""

import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.tasks.task import Example, Task
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.evaluation import harness
from juliagpt_jax.evaluation.tasks import answers, metrics
from juliagpt_jax.evaluation.tasks.prompting import Prompter, shots_of
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.decoder import Decoder

TOKENIZER = CharTokenizer("\n abcdefgh")
CONTEXT = 32
TASK = Task(lambda split, path: [], "exact", lambda example, text: text == example.answer, "", "", stop="h", most=6)
WORDS, LETTERS = ("a b", "g a"), ("a", "b", "c")


@pytest.fixture(scope="module")
def opened(tiny):
    """A model with random weights, sharpened so that its choices are its own."""
    config = tiny("model.width=16", "model.layers=1", "model.heads=1", f"model.context={CONTEXT}").model
    model = Decoder(config, TOKENIZER.vocab_size)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    params = jax.tree.map(lambda p: 2 * p, params)
    return SimpleNamespace(model=model, params=params, tokenizer=TOKENIZER, stops=())


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("abcdefg "), rng.integers(3, 14))) for _ in range(40)]


def ask(*rows):
    return [SimpleNamespace(args=row) for row in rows]


def prompter(**more):
    return Prompter(TOKENIZER, TASK, CONTEXT + 1, 6, **more)


@pytest.mark.parametrize("choices", [WORDS, LETTERS], ids=["several tokens", "one token each"])
def test_choices_are_scored_as_the_harness_scores_them(opened, texts, choices):
    """More questions than a batch, one and several tokens a choice, some shots; single tokens by one pass for all."""
    examples = [Example(text, choices[0], choices) for text in texts]
    shots = [Example("cab", choices[1], choices)]
    found = answers.choose(opened, prompter(shots=shots), examples)
    adapter = harness.Adapter(opened.model, opened.params, TOKENIZER)
    before = f"cab{choices[1]}\n\n"
    rows = [(before + example.prompt, choice) for example in examples for choice in choices]
    wanted = np.array([value for value, _ in adapter.loglikelihood(ask(*rows))]).reshape(len(texts), -1)
    np.testing.assert_allclose(found.logs, wanted, atol=1e-4)
    alone = adapter.loglikelihood(ask(*[(examples[0].prompt, choice) for choice in choices]))
    np.testing.assert_allclose(found.alone[0], [value for value, _ in alone], atol=1e-4)
    assert len(set(found.scores("sum").argmax(axis=1))) > 1, "a model that always says one thing shows nothing"


def test_written_answers_are_the_harness_s(opened, texts):
    """Greedy, up to the stop; whatever the order and the batch."""
    examples = [Example(text, "a") for text in texts]
    found = answers.write(opened, prompter(), examples, Rule(greedy=True))
    adapter = harness.Adapter(opened.model, opened.params, TOKENIZER)
    settings = {"max_gen_toks": 6, "until": ["h"]}
    assert [own for (own,) in found.texts] == adapter.generate_until(ask(*[(text, settings) for text in texts]))
    ends = [len(own) < 6 for (own,) in found.texts]
    assert [over for (over,) in found.ended] == ends and 0 < sum(ends) < len(ends)


def test_samples_differ_and_are_drawn_by_seed(opened, texts):
    examples = [Example(text, "a") for text in texts[:3]]
    draw = lambda examples, seed: answers.write(opened, prompter(), examples, Rule(2.0), 3, seed).texts
    once = draw(examples, 1)
    assert all(len(set(samples)) > 1 for samples in once)
    assert once == draw(examples, 1) != draw(examples, 2)
    assert once == draw(examples[::-1], 1)[::-1]


def test_prompts_that_are_too_long_lose_shots_first(opened):
    """Then their beginning; what the answer needs stays free."""
    shots = [Example("abc", "d")] * 3  # of 4 letters and 2 line ends each
    said = lambda example: TOKENIZER.decode(told.prompt(example))
    told = prompter(shots=shots)
    assert said(Example("a" * 8, "")) == "\n" + "abcd\n\n" * 3 + "a" * 8 and (told.dropped, told.cut) == (0, 0)
    assert said(Example("a" * 9, "")) == "\n" + "abcd\n\n" * 2 + "a" * 9 and (told.dropped, told.cut) == (1, 0)
    assert said(Example("b" * 40, "")) == "b" * 27 and (told.dropped, told.cut) == (2, 1)
    with pytest.raises(UserError, match="an answer of 40 tokens has no room"):
        Prompter(TOKENIZER, TASK, CONTEXT, 40).prompt(Example("a", ""))
    assert answers.choose(opened, told, [Example("b" * 60, "a b", WORDS)]).logs.shape == (1, 2)


def test_shots_show_every_choice_alike():
    pool = [Example(f"{i}", LETTERS[0 if i < 90 else i % 3], LETTERS) for i in range(100)]
    found = shots_of(pool, 7, 0)
    assert [sum(shot.answer == letter for shot in found) for letter in LETTERS] == [3, 2, 2]
    assert found == shots_of(pool, 7, 0) != shots_of(pool, 7, 1) and len(set(shot.prompt for shot in found)) == 7
    with pytest.raises(UserError, match="--shots=101: there are"):
        shots_of(pool, 101, 0)


def test_an_instruction_stands_before_everything():
    told = prompter(instruction="abc")
    assert TOKENIZER.decode(told.prompt(Example("d", ""))) == "\nabc\n\nd"


def test_most_tokens():
    assert answers.most_tokens(TOKENIZER, TASK, [Example("", "abc"), Example("", "a")]) == 7


@pytest.mark.long
def test_lm_evaluation_harness_itself_agrees(opened, texts, tmp_path, monkeypatch):
    """Accuracy, by sum and by length, of one set of questions; where the harness is installed."""
    pytest.importorskip("lm_eval")
    rows = [{"text": text, "right": i % 2} for i, text in enumerate(texts)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "ours",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_choice": list(WORDS),
        "target_delimiter": "",
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    (tmp_path / "ours.yaml").write_text(json.dumps(task))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    adapter = harness.Adapter(opened.model, opened.params, TOKENIZER)
    results = harness.run_tasks(adapter, ["ours"], str(tmp_path), 0, None)["ours"]
    examples = [Example(row["text"], WORDS[row["right"]], WORDS) for row in rows]
    values = metrics.accuracy(TASK, examples, answers.choose(opened, prompter(), examples))
    assert results["acc,none"] == pytest.approx(values["accuracy"].value)
    assert "lm_eval" in sys.modules and 0 < values["accuracy"].value < 1


@pytest.mark.long
def test_a_t5_answers_questions(tiny, texts):
    """Choices with what ends them, each by one unpadded pass; written answers as its generator's, up to their end."""
    config = tiny("model.kind=t5", "model.positions=none", "model.width=16", "model.layers=1", "model.heads=2")
    model = build_model(config, TOKENIZER.vocab_size)
    source = {"source": jnp.zeros((1, 2), int), "tokens": jnp.zeros((1, 2), int)}
    params = jax.tree.map(lambda p: 2 * p, jax.jit(model.init)(jax.random.key(0), source)["params"])
    t5 = SimpleNamespace(model=model, params=params, tokenizer=TOKENIZER, stops=())
    asked = [Example(text, WORDS[0], WORDS) for text in texts[:5]]
    told = Prompter(TOKENIZER, TASK, config.model.context, 6, encodes=True)
    found = answers.choose(t5, told, asked)
    end = [TOKENIZER.ending]
    forward = jax.jit(lambda given: model.apply({"params": params}, given)[0])
    for i, example in enumerate(asked[:2]):
        for j, word in enumerate(WORDS):
            answer = [*TOKENIZER.encode(word).tolist(), *end]
            given = {"source": TOKENIZER.source(example.prompt)[None], "tokens": np.array([[0, *answer[:-1]]])}
            table = jax.nn.log_softmax(forward(given)[0])
            assert found.logs[i, j] == pytest.approx(float(table[np.arange(len(answer)), answer].sum()), abs=1e-4)
    written = answers.write(t5, told, asked, Rule(greedy=True)).texts
    ids = Generator(model, params).generate([TOKENIZER.source(e.prompt) for e in asked], 6, Rule(greedy=True))
    assert [own for (own,) in written] == [TOKENIZER.decode(row).partition("\n")[0] for row in ids]
