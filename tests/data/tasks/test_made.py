"""Made-up tasks: answers that their verifiers take, and no others; parts that share nothing."""

import itertools
import re
from pathlib import Path

import pytest

from juliagpt_jax.data.tasks.build import TASKS, read
from juliagpt_jax.ground.errors import UserError

MADE = ["sums", "addition", "addition_reversed", "addition_scratchpad"]


@pytest.fixture(scope="module", params=MADE)
def task(request):
    return request.param, {split: read(request.param, split) for split in ("train", "dev", "test")}


def test_answers_are_right_and_others_are_not(task):
    word, parts = task
    verify = TASKS[word].verify
    examples = parts["test"]
    for example, other in itertools.pairwise(examples):
        assert verify(example, example.answer), example
        assert verify(example, other.answer) == (other.facts["number"] == example.facts["number"])
        assert not verify(example, "") and not verify(example, "no idea")
    assert TASKS[word].stop not in "".join(example.answer for example in examples)


def _operands(example):
    return example.facts.get("kind"), *sorted(example.facts["operands"])


def test_parts_share_no_operands(task):
    _, parts = task
    told = {split: {_operands(example) for example in examples} for split, examples in parts.items()}
    assert [len(told[split]) for split in told] == [10_000, 500, 1_000] == [*map(len, parts.values())]
    assert not told["train"] & told["test"] and not told["train"] & told["dev"] and not told["dev"] & told["test"]


def test_forms():
    """Three ways of writing one sum, worked by hand."""
    ways = [{e.prompt: e for e in read(word, "test")} for word in MADE[1:]]
    prompt = next(p for p, e in ways[0].items() if e.facts["number"] > 999)
    a, b = int(prompt[:3]), int(prompt[4:7])
    plain, backwards, steps = (way[prompt].answer for way in ways)
    assert plain == str(a + b) and backwards == plain[::-1]
    first, second, third, last = steps.split(" ")
    assert last == plain and first == f"{a % 10}+{b % 10}+0={a % 10 + b % 10:02d}"
    carry = (a % 100 + b % 100) // 100
    assert third == f"{a // 100}+{b // 100}+{carry}={a // 100 + b // 100 + carry:02d}" and second[4] == first[6]


def test_a_sum_is_marked_by_what_is_said_first():
    example = read("sums", "test")[0]
    verify = TASKS["sums"].verify
    assert verify(example, example.answer + ", as everybody knows.")
    assert not verify(example, example.answer + " thousand") and not verify(example, "not " + example.answer)


def test_a_word_that_is_none():
    with pytest.raises(UserError, match="no task is called 'adition'; did you mean addition"):
        read("adition", "test")
    with pytest.raises(UserError, match="no part of a task is called 'val'"):
        read("sums", "val")


def test_the_page_has_every_task():
    page = (Path(__file__).parents[3] / "docs" / "howto" / "tasks.md").read_text(encoding="utf-8")
    printed = {row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| .* \| `(\w+)` \| (.*) \|$", page, re.MULTILINE)}
    assert printed == {word: (task.metric, task.licence) for word, task in TASKS.items()}


def test_answers_may_be_as_long_as_they_are(task):
    word, parts = task
    assert max(len(example.answer) for examples in parts.values() for example in examples) < TASKS[word].most
