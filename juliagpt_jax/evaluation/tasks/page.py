"""A page on a task: the metrics, where the errors are, with examples, and what the model looks at while it answers."""

import collections
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.evaluation import attention
from juliagpt_jax.evaluation.tasks import metrics
from juliagpt_jax.evaluation.tasks.errors import CATEGORIES
from juliagpt_jax.evaluation.tasks.metrics import Chosen, Value, Written
from juliagpt_jax.inference.opened import Opened

SHOWN = 3  # examples of a category
LONGEST = 600  # characters of a text that is shown
MAP_TOKENS, MAP_LAYERS, MAP_HEADS = 40, 4, 6  # of the attention maps


class Judged(NamedTuple):
    """An example, what was said, whether that is right (of a summary its ROUGE-L), and its categories."""

    example: Example
    said: str
    good: float
    categories: list[str]


def judge(word: str, task: Any, examples: Sequence[Example], answers: Chosen | Written) -> list[Judged]:
    """Return every answer with its categories; of several samples the first."""
    if isinstance(answers, Chosen):
        best = answers.scores().argmax(axis=1)
        said = [example.choices[i] for example, i in zip(examples, best, strict=True)]
        good = [float(a == e.answer) for a, e in zip(said, examples, strict=True)]
    else:
        said = [texts[0] for texts in answers.texts]
        if task.verify:
            good = metrics.verify(task, examples, answers)[:, 0].tolist()
        else:
            good = metrics.rouge_scores(examples, said)[0]["rougeL"].tolist()
    sort = CATEGORIES[word]
    rows = zip(examples, said, good, strict=True)
    return [Judged(example, text, own, sort(example, text)) for example, text, own in rows]


def counts(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return for each category how many answers are in it, their mean goodness, and that of all others; the most
    frequent first."""
    total = len(judged)
    found = collections.Counter(category for one in judged for category in one.categories)
    rows = []
    for category, count in found.most_common():
        inside = [one.good for one in judged if category in one.categories]
        outside = [one.good for one in judged if category not in one.categories]
        mean = lambda values: float(np.mean(values)) if values else math.nan
        rows.append({"category": category, "count": count, "share": count / total})
        rows[-1] |= {"inside": mean(inside), "outside": mean(outside)}
    return rows


def page(
    word: str, row: dict[str, Any], values: dict[str, Value], judged: Sequence[Judged], files: Sequence[str]
) -> str:
    """Return the page as Markdown."""
    right = "mean ROUGE-L" if row["values"].keys() & {"rougeL"} else "right"
    lines = [f"# {word}", "", f"{row['workdir']}, step {row['step']:,}: {row['questions']:,} questions of the "]
    lines[-1] += f"{row['split']} part, {row['shots']} examples shown before each, seed {row['seed']}."
    lines += ["", "| metric | value | 95% interval |", "|---|---|---|"]
    lines += [f"| {name} | {v:.4f} | {low:.4f} .. {high:.4f} |" for name, (v, low, high) in values.items()]
    for name, own in row["beside"].items():
        lines += [f"| {name}: {key} | {v:.4f} | {low:.4f} .. {high:.4f} |" for key, (v, low, high) in own.items()]
    lines += ["", *(f"![{file.removesuffix('.png')}]({file})\n" for file in files)]
    lines += ["## Kinds of answers", "", "An answer may be of several kinds, a right one too.", ""]
    lines += [f"| kind | answers | share | {right} in it | {right} in all others |", "|---|---|---|---|---|"]
    table = counts(judged)
    share = lambda x: "" if math.isnan(x) else f"{x:.1%}"
    lines += [
        f"| {r['category']} | {r['count']:,} | {r['share']:.1%} | {share(r['inside'])} | {share(r['outside'])} |"
        for r in table
    ]
    lines += ["", "## Examples", ""]
    for r in table:
        members = sorted((one for one in judged if r["category"] in one.categories), key=lambda one: one.good)
        lines += [f"### {r['category']}", ""]
        for one in members[:SHOWN]:
            right = ", which is right" if one.good == 1 else ""
            lines += [*_quoted(one.example.prompt), "", "wanted:", "", *_quoted(one.example.answer.strip()), ""]
            lines += [f"said{right}:", "", *_quoted(one.said.strip()), ""]
    return "\n".join(lines).rstrip() + "\n"


def _quoted(text: str) -> list[str]:
    text = text if len(text) <= LONGEST else f"... {text[-LONGEST:]}"
    return ["    " + line for line in text.split("\n")]


def draw(word: str, judged: Sequence[Judged], answers: Chosen | Written, folder: Path) -> list[str]:
    """Write TASK.png: the kinds of answers, and of choices the calibration. Return the names of the files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    table = counts(judged)[:16][::-1]
    chosen = answers if isinstance(answers, Chosen) and answers.logs.shape[1] > 1 else None
    size = 12 if chosen else 8, 1 + 0.32 * len(table) + (0.8 if chosen else 0)
    figure, axes = plt.subplots(1, 2 if chosen else 1, figsize=size, layout="constrained", squeeze=False)
    bars = axes[0, 0]
    names = [r["category"] for r in table]
    bars.barh(names, [r["count"] for r in table], color="#b9c6d6", label="all")
    right = [r["count"] * r["inside"] for r in table]
    bars.barh(names, right, color="#3b6ea5", label="right" if _marked(judged) else "times ROUGE-L")
    bars.set(xlabel="answers")
    bars.tick_params(axis="y", labelsize=7)
    bars.legend(fontsize=7)
    if chosen:
        chances = metrics.probabilities(chosen.scores())
        bins = metrics.calibration(chances, np.array([one.good for one in judged]))
        one = axes[0, 1]
        one.plot([0, 1], [0, 1], "--", color="black", linewidth=0.8)
        one.scatter(*zip(*((c, s) for c, s, _ in bins), strict=True), s=[8 + 120 * n / len(judged) for *_, n in bins])
        one.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1.02), ylim=(-0.02, 1.02))
        one.grid(alpha=0.3)
    figure.savefig(folder / f"{word}.png", dpi=110)
    plt.close(figure)
    return [f"{word}.png"]


def _marked(judged: Sequence[Judged]) -> bool:
    return all(one.good in (0, 1) for one in judged)


def draw_map(word: str, opened: Opened, ids: np.ndarray, folder: Path) -> list[str]:
    """Write maps-TASK.png, on what heads of some layers look while the model reads the end of a prompt; nothing for a
    model without attention.

    Args:
        ids: of the prompt; the last MAP_TOKENS are drawn.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    model, layers = opened.model, attention.layers_with_heads(opened.model)
    if not layers:
        return []
    ids = ids[-MAP_TOKENS:]
    weights = np.asarray(attention.maps(model, opened.params, ids[None]))[:, 0]
    letters = [_shown(str(opened.tokenizer.decode(np.array([token])))) for token in ids]
    letters = ["sink"] * (weights.shape[-1] - len(letters)) + letters
    rows = sorted(set(np.linspace(0, len(layers) - 1, min(MAP_LAYERS, len(layers))).round().astype(int).tolist()))
    heads = min(MAP_HEADS, weights.shape[1])
    figure, grid = plt.subplots(
        len(rows), heads, figsize=(2.8 * heads + 0.5, 2.8 * len(rows) + 0.3), layout="constrained", squeeze=False
    )
    for row, parts in zip(rows, grid, strict=True):
        for head, part in enumerate(parts):
            part.imshow(np.sqrt(weights[row, head]), cmap="magma", vmin=0, vmax=1)
            part.set_title(f"layer {layers[row]}, head {head}", fontsize=7)
            part.set_xticks(range(len(letters)), letters, fontsize=3.5, rotation=90)
            part.set_yticks(range(len(letters)), letters, fontsize=3.5)
            part.tick_params(length=0, pad=1)
    figure.supxlabel("looked at (root of the weight: black 0, white 1)", fontsize=7)
    figure.supylabel("who looks", fontsize=7)
    figure.savefig(folder / f"maps-{word}.png", dpi=110)
    plt.close(figure)
    return [f"maps-{word}.png"]


def _shown(text: str) -> str:
    return text.replace("\n", r"\n").replace(" ", "_").replace("$", r"\$")
