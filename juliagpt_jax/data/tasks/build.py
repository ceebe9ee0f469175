"""The table of tasks."""

from juliagpt_jax.data.tasks import arithmetic, chains, last_words, lessons, problems, sentiment, summaries
from juliagpt_jax.data.tasks.task import Example, Task
from juliagpt_jax.ground import words
from juliagpt_jax.ground.errors import UserError, about


def find(word: str) -> Task:
    """Return the task of a word.

    Raises:
        UserError: there is none.
    """
    if word not in TASKS:
        raise UserError(f"no task is called {word!r}{words.near(word, TASKS)}")
    return TASKS[word]


def read(word: str, split: str, path: str | None = None) -> list[Example]:
    """Return the examples of a part of a task.

    Args:
        split: "train", "dev" or "test".
        path: of the user's file or folder; None for a task that is made up.

    Raises:
        UserError: no task is called so, or the file is not there or not sound.
    """
    task = find(word)
    with about(word):
        return task.read(split, path)


_OWN = "MIT"  # what is made up here has this project's licence
_NONE = "none stated"

TASKS: dict[str, Task] = {
    "sums": Task(lessons.sums, "exact", lessons.right_sum, _OWN, "sums and their kin in the schoolroom's words"),
    "syllogisms": Task(
        lessons.syllogisms, "exact", lessons.right_conclusion, _OWN, "what follows from premises, in its words"
    ),
    "addition": Task(arithmetic.plain, "number", arithmetic.right, _OWN, "sums of three-digit numbers", most=8),
    "addition_reversed": Task(
        arithmetic.backwards, "number", arithmetic.right_backwards, _OWN, "the same, the sum's last digit first", most=8
    ),
    "addition_scratchpad": Task(
        arithmetic.scratchpad, "number", arithmetic.right, _OWN, "the same, step by step before the sum", most=40
    ),
    "chains": Task(chains.chains, "number", chains.right, _OWN, "chained sums, step by step for a calculator", most=64),
    "sst2": Task(sentiment.sentences, "accuracy", None, _NONE, "is a sentence of a film review positive?"),
    "sst2_phrases": Task(sentiment.phrases, "accuracy", None, _NONE, "the same with phrases, as in GLUE"),
    "samsum": Task(
        summaries.samsum, "rouge", None, "CC BY-NC-ND 4.0", "summaries of messages between friends", "\n", 500
    ),
    "dialogsum": Task(summaries.dialogsum, "rouge", None, "CC BY-NC-SA 4.0", "summaries of talks", "\n", 500),
    "mts_dialog": Task(
        summaries.mts_dialog, "rouge", None, "CC BY 4.0", "a doctor's notes on talks with patients", "\n", 1000
    ),
    "gsm8k": Task(
        problems.gsm8k, "number", problems.right_number, "MIT", "word problems with worked solutions", "\n\n", 1000
    ),
    "mawps": Task(problems.mawps, "number", problems.right_equation, _NONE, "word problems, equations over names"),
    "mawps_blind": Task(
        problems.mawps_blind, "number", problems.right_equation, _NONE, "the same without their questions: a control"
    ),
    "mawps_text": Task(
        problems.mawps_text, "number", problems.right_number, _NONE, "the same with numbers, and a reckoning to write"
    ),
    "svamp": Task(
        problems.svamp, "number", problems.right_equation, "MIT; of the part to train on CC BY-NC 4.0 and none stated",
        "changed word problems, equations over names",
    ),
    "svamp_text": Task(
        problems.svamp_text, "number", problems.right_number, "as svamp", "the same with numbers, and a reckoning"
    ),
    "last_words": Task(
        last_words.last_words, "last_word", last_words.right, "of the text", "the last word of a passage, as LAMBADA"
    ),
}  # fmt: skip
