"""Kinds of errors of answers that were made up to have them."""

import pytest

from juliagpt_jax.data.tasks import sentiment
from juliagpt_jax.data.tasks.build import TASKS
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.evaluation.tasks import page
from juliagpt_jax.evaluation.tasks.errors import CATEGORIES
from juliagpt_jax.evaluation.tasks.metrics import Written

SUM = Example("095+017=", "0112", facts={"number": 112, "operands": (95, 17)})
BACK = Example("095+017=", "2110", facts={"number": 112, "operands": (95, 17)})
STEPS = Example("095+017=", "5+7+0=12 9+1+1=11 0+0+1=01 0112", facts={"number": 112, "operands": (95, 17)})
SPELLED = Example("nine and five are ", "fourteen", facts={"kind": "sum", "number": 14, "operands": (9, 5)})
LOGIC = Example(
    "all owls are poets; some cooks are owls; therefore ",
    "some cooks are poets",
    facts={"premises": ("all owls are poets", "some cooks are owls"), "form": 2},
)
PROBLEM = Example(
    "",
    " <<16-3-4=9>>9\n<<9*2=18>>18\n#### 18",
    facts={"number": 18.0, "question": "Her 16 ducks: 3 for her, 4 for friends, $2 each"},
)
EQUATION = Example(
    "", "- number0 number1", facts={"number": 5.0, "numbers": (7.0, 2.0), "equation": "- number0 number1"}
)
TALK = Example(
    "",
    "",
    facts={
        "dialogue": "Ann: I saw the old house at the end of our road\nBob: was it nice ?",
        "references": ("Ann saw the old house and Bob asks whether it was nice.",),
    },
)
KITE = Example("he took the kite and flew the", " kite", facts={"seen": True})


@pytest.mark.parametrize(
    "word, example, said, has",
    [
        ("sst2", sentiment.example("it is not bad", "1"), " negative", "flipped with a negation in it"),
        ("sst2", sentiment.example("dull but brave", "1"), " negative", "positive taken for negative"),
        ("sst2", sentiment.example("dull but brave", "1"), " positive", "with a contrast (but, though)"),
        ("addition", SUM, "0111", "slip: one digit off by one"),
        ("addition", SUM, "0912", "slip: one digit off by more"),
        ("addition", SUM, "112", "too few or too many digits"),
        ("addition", SUM, "eh", "no number"),
        ("addition", SUM, "0112", "2 carries"),
        ("addition_reversed", BACK, "2100", "digit 3 as written is wrong"),
        ("addition_scratchpad", STEPS, "5+7+0=12 9+1+1=11 0+0+1=01 0102", "right steps, wrong sum"),
        ("addition_scratchpad", STEPS, "5+7+0=12 9+1+0=10 0+0+1=01 0112", "a wrong step before a right sum"),
        ("sums", SPELLED, "fifteen", "slip: off by one"),
        ("sums", SPELLED, "twenty-four", "slip: off by ten"),
        ("sums", SPELLED, "nine", "an operand said again"),
        ("sums", SPELLED, "blue", "no number"),
        ("syllogisms", LOGIC, "all owls are poets", "a premise said again"),
        ("syllogisms", LOGIC, "some cooks are kings", "a term that no premise has"),
        ("syllogisms", LOGIC, "all cooks are poets", "broken chain: it does not follow"),
        ("gsm8k", PROBLEM, "<<16-3-4=8>>8\n<<8*2=16>>16\n#### 16", "slip: a reckoning is wrong"),
        ("gsm8k", PROBLEM, "<<16-3=13>>13\n#### 13", "broken chain: fewer steps than the solution"),
        ("gsm8k", PROBLEM, "<<16+55=71>>71\n#### 71", "a number from nowhere in a reckoning"),
        ("gsm8k", PROBLEM, "<<16-3=13>>13 <<13*2=26>>26\n#### 26", "right reckonings of the wrong thing"),
        ("gsm8k", PROBLEM, "#### 16", "a number of the question as the answer"),
        ("gsm8k", PROBLEM, "she has 18", "no #### before the final number"),
        ("mawps", EQUATION, "- number1 number0", "the right parts in another order"),
        ("mawps", EQUATION, "+ number0 number1", "other operations"),
        ("mawps", EQUATION, "+ - number0 number1 2.0", "too many operations"),
        ("mawps", EQUATION, "- number0 4.0", "other quantities"),
        ("mawps", EQUATION, "- number0", "not an equation over these numbers"),
        ("samsum", TALK, "Carl saw a house.", "an invented name: in the summary and not in the dialogue"),
        ("samsum", TALK, "Ann saw a house.", "a name of the reference is missing"),
        ("samsum", TALK, "saw the old house at the end of our road", "8 words or more copied in a row"),
        ("samsum", TALK, "Ann saw Bob and " * 9, "it repeats itself"),
        ("last_words", KITE, " took", "another word of the passage"),
    ],
)
def test_kinds(word, example, said, has):
    found = CATEGORIES[word](example, said)
    assert has in found and len(found) == len(set(found))


@pytest.mark.parametrize(
    "word, example",
    [("sums", SPELLED), ("addition", SUM), ("syllogisms", LOGIC), ("gsm8k", PROBLEM), ("mawps", EQUATION)],
)
def test_a_right_answer_is_of_no_wrong_kind(word, example):
    found = CATEGORIES[word](example, example.answer)
    assert len(found) == 1, found


def test_every_task_has_its_kinds():
    assert CATEGORIES.keys() == TASKS.keys()


def test_counts_and_page():
    """What is right within a kind and outside of it; the page shows the worst first."""
    answers = Written([["0112"], ["0113"], ["112"], ["no"]], [[True]] * 4)
    judged = page.judge("addition", TASKS["addition"], [SUM] * 4, answers)
    assert [one.good for one in judged] == [1, 0, 1, 0]
    table = {row["category"]: row for row in page.counts(judged)}
    assert table["2 carries"]["count"] == 4 and table["2 carries"]["inside"] == 0.5
    assert table["no number"]["share"] == 0.25 and table["no number"]["inside"] == 0
    assert table["no number"]["outside"] == pytest.approx(2 / 3)
    row = {"workdir": "runs/x", "step": 5, "questions": 4, "split": "dev", "shots": 0, "seed": 0}
    text = page.page("addition", row | {"values": {"number": [0.5, 0, 1]}, "beside": {}}, {}, judged, ["addition.png"])
    assert "| no number | 1 | 25.0% | 0.0% | 66.7% |" in text and "![addition](addition.png)" in text
    section = text.split("### 2 carries")[1].split("###")[0]
    assert section.index("    0113\n") < section.index("said, which is right:")
