"""Rows that need no model: the most frequent label, the first turns of a dialogue."""

import collections
from collections.abc import Sequence

import numpy as np

from juliagpt_jax.data.tasks.task import Example, Task
from juliagpt_jax.evaluation.tasks.metrics import Value, interval, rouge_scores

LEAD = 3  # turns of a dialogue


def beside(task: Task, examples: Sequence[Example]) -> dict[str, dict[str, Value]]:
    """Return what stands beside a model's metrics, by name: of choices the share of the most frequent one, of summaries
    what the first or the longest turns would get (as Gliwa et al. 2019 and Chen et al. 2021 report)."""
    if task.metric == "accuracy":
        (most, _), *_ = collections.Counter(example.answer for example in examples).most_common(1)
        share = np.array([float(example.answer == most) for example in examples])
        return {f"always {most.strip()}": {"accuracy": interval(share)}}
    if task.metric == "rouge":
        turns = [[turn for turn in example.facts["dialogue"].split("\n") if turn.strip()] for example in examples]
        rows = {f"the first {LEAD} turns": [" ".join(own[:LEAD]) for own in turns]}
        longest = lambda own: sorted(sorted(range(len(own)), key=lambda i: -len(own[i]))[:LEAD])
        rows[f"the longest {LEAD} turns"] = [" ".join(own[i] for i in longest(own)) for own in turns]
        measured = {name: rouge_scores(examples, texts)[0] for name, texts in rows.items()}
        return {name: {key: interval(v) for key, v in values.items()} for name, values in measured.items()}
    return {}
