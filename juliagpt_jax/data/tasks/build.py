"""The table of tasks."""

from juliagpt_jax.data.tasks import arithmetic, lessons
from juliagpt_jax.data.tasks.task import Example, Task
from juliagpt_jax.ground import words
from juliagpt_jax.ground.errors import UserError


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
    return find(word).read(split, path)


OWN = "MIT"  # what is made up here has this project's licence
TASKS: dict[str, Task] = {
    "sums": Task(lessons.sums, "exact", lessons.right_sum, OWN, "sums and their kin in the schoolroom's words"),
    "addition": Task(arithmetic.plain, "number", arithmetic.right, OWN, "sums of three-digit numbers"),
    "addition_reversed": Task(
        arithmetic.backwards, "number", arithmetic.right_backwards, OWN, "the same, the sum's last digit first"
    ),
    "addition_scratchpad": Task(
        arithmetic.scratchpad, "number", arithmetic.right, OWN, "the same, step by step before the sum", most=48
    ),
}
