"""A task on the command line: what is refused before a model is opened, and what is written."""

import json

import numpy as np
import pytest

from juliagpt_jax import analyse, evaluate
from juliagpt_jax.data.tasks import build
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.evaluation.tasks import asked
from juliagpt_jax.evaluation.tasks.metrics import NORMALISED, Chosen, Written
from juliagpt_jax.evaluation.tasks.prompting import Prompter
from juliagpt_jax.ground.errors import UserError


def options(command, *flags):
    return command.parser().parse(["--workdir=nowhere", *flags])


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--shots=2"], r"--shots is of a task: give --task=WORD too"),
        (["--task=sst"], r"no task is called 'sst'; did you mean sst2"),
        (["--task=sst2"], r"sst2: this task reads a file, dev\.tsv: give its path .* get it from https"),
        (["--task=sst2", "--task_data=/no/where"], r"sst2: /no/where does not exist; get it from https"),
        (["--task=sums", "--data=x"], r"--data is of a text, not of a task"),
        (["--task=sums", "--limit=-1"], r"--limit=-1 must be at least 0"),
        (["--task=sst2", "--samples=2"], r"--samples=2: answers to sst2 are not written and marked"),
        (["--task=sums", "--samples=2", "--temperature=0"], r"writes the same answer in every sample"),
        (["--task=sums", "--temperature=-1"], r"temperature must be above 0"),
        (["--task=sums"], r"nowhere"),
    ],
)
def test_mistakes_are_told_in_one_line(flags, says):
    with pytest.raises(UserError, match=says):
        evaluate.main(options(evaluate, *flags))


def test_a_page_is_of_one_run():
    with pytest.raises(UserError, match="of one run at a time"):
        analyse.main(options(analyse, "--workdir=other", "--out=x", "--task=sums"))


def test_shots_are_not_asked(tmp_path):
    """Not even where one file is every part."""
    file = tmp_path / "all.tsv"
    file.write_text("".join(f"film {i}\t{i % 2}\n" for i in range(10)))
    found = asked.prepare(options(evaluate, "--task=sst2", f"--task_data={file}", "--shots=4"))
    assert len(found.shots) == 4 and len(found.asked) == 6
    assert not {shot.prompt for shot in found.shots} & {example.prompt for example in found.asked}
    assert asked.BY == NORMALISED


@pytest.mark.parametrize(
    "texts, says",
    [
        ([["a"], ["b"]], []),
        (
            [["", "a"], [" ", "b"]],
            [r"2 of 4 answers are empty: the model wrote '\n\n' or its own end first; --shots=2"],
        ),
    ],
)
def test_empty_answers_are_told(texts, says):
    """Metrics near 0 may say that a model was not asked in its way."""
    prompter = Prompter(CharTokenizer("\n ab"), build.find("gsm8k"), 8)
    told = asked.notes(prompter, Written(texts, [[True] * len(each) for each in texts]))
    assert len(told) == len(says) and all(map(str.startswith, told, says))
    assert asked.notes(prompter, Chosen(*[np.zeros((1, 2))] * 3, np.zeros((1, 2), bool), "sum")) == []


@pytest.mark.long
def test_a_row_is_added_and_a_page_is_written(clean, tmp_path, capsys):
    """Answers and rows of two runs of the command; the same numbers on the page."""
    task = ["--task=sums", "--limit=20", "--unknown=skip", "--samples=2", "--max_new_tokens=8", f"--workdir={clean}"]
    results, said = tmp_path / "rows.jsonl", tmp_path / "said.jsonl"
    for _ in range(2):
        evaluate.main(evaluate.parser().parse([*task, f"--results={results}", f"--answers={said}", "--json"]))
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert rows[1] == shown and rows[0] | {"seconds": 0} == rows[1] | {"seconds": 0}
    assert shown["questions"] == 20 and shown["samples"] == 2 and shown["values"].keys() >= {"exact", "pass@2"}
    answers = [json.loads(line) for line in said.read_text().splitlines()]
    right = sum(map(sum, (row["right"] for row in answers))) / 40
    assert len(answers) == 20 and shown["values"]["exact"][0] == pytest.approx(right)
    analyse.main(analyse.parser().parse([*task, f"--out={tmp_path}"]))
    for name in ("sums.md", "sums.png", "maps-sums.png", "sums.json"):
        assert (tmp_path / name).stat().st_size > 500
    page = json.loads((tmp_path / "sums.json").read_text())
    assert page["values"] == shown["values"] and sum(kind["count"] for kind in page["kinds"]) >= 20
