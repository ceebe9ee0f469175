"""Chained sums: each step is what a calculator says, and the parts share nothing."""

from juliagpt_jax.data.tasks.build import TASKS, read
from juliagpt_jax.data.tasks.calculator import value


def test_chains():
    task = TASKS["chains"]
    parts = {split: read("chains", split) for split in ("train", "dev", "test")}
    prompts = [example.prompt for own in parts.values() for example in own]
    assert len(set(prompts)) == len(prompts) == 21_500
    for example in parts["test"]:
        expression = example.prompt.rstrip("=")
        assert value(expression) == example.facts["number"] and task.verify(example, example.answer)
        *steps, last = [*example.answer.replace(">>", "<<").split("<<")[1::2], example.answer.rpartition(">")[2]]
        assert 2 <= len(steps) == example.facts["steps"] <= 4
        for step in steps:
            left, _, right = step.partition("=")
            assert value(left) == int(right) >= 0
        assert not task.verify(example, example.answer + "1") and not task.verify(example, "")
        assert task.verify(example, last) and len(example.answer) <= task.most
