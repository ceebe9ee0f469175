"""Measure a model that solves puzzles: the share it solves, after each step, and of easy and hard ones."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.data.puzzles import arc
from juliagpt_jax.data.puzzles.arc import Arc
from juliagpt_jax.data.puzzles.puzzles import Pairs, Puzzles
from juliagpt_jax.ground import config
from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.inference.solving import Solved
from juliagpt_jax.models import build
from juliagpt_jax.models.interface import Model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.models.recursive import CORES


def score(solved: Solved, pairs: Pairs, puzzles: Puzzles | None = None) -> dict[str, Any]:
    """Return the measurements of answers: `solved`, the share of puzzles that are right everywhere after the last step,
    `solved_by_step`, `symbols`, the share of right symbols, `halt_right`, the share of puzzles of which the halting
    head says rightly that they are solved or not, and, given the kind of puzzles, `solved_by_hardness`."""
    asked = pairs.targets != IGNORED
    right = (solved.answers == pairs.targets[None]) & asked
    exact = (right | ~asked).all(-1)
    values: dict[str, Any] = {
        "puzzles": len(pairs.inputs),
        "loss": float(solved.losses.mean()),
        "solved": float(exact[-1].mean()),
        "symbols": float(right[-1].sum() / asked.sum()),
        "halt_right": float(((solved.halts[-1] > 0) == exact[-1]).mean()),
        "solved_by_step": exact.mean(1).tolist(),
        "symbols_by_step": (right.sum((1, 2)) / asked.sum()).tolist(),
    }
    if puzzles is not None and puzzles.hardness_is:
        hard = puzzles.hardness(pairs.inputs)
        values["hardness_is"] = puzzles.hardness_is
        values["solved_by_hardness"] = {
            str(level): [float(exact[-1][hard == level].mean()), int((hard == level).sum())]
            for level in np.unique(hard)
        }
    return values


def of_tasks(puzzles: Arc, solved: Solved) -> dict[str, float]:
    """Return the share of ARC tasks all of whose tests are right: `voted`, in one of two tries that all forms of a task
    vote for; `single_pass`, in one try of the task as it is; both also after the first step."""
    side, once, values = puzzles.settings.puzzle.side, len(puzzles.asks) // puzzles.settings.puzzle.copies, {}
    for when, step in (("", -1), ("_first_step", 0)):
        answers, trust = solved.answers[step], solved.halts[step]
        for name, count, tries in (("voted", len(puzzles.asks), arc.TRIES), ("single_pass", once, 1)):
            voted = arc.vote(puzzles.asks[:count], answers[:count], trust[:count], side)
            values[name + when] = arc.solved(puzzles.tasks, voted, tries)
    return values


def of_forms(voted: Solved, single: Solved, right: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Return the share of puzzles solved `voted`, by the answer that most forms give, and in a `single_pass` of the
    puzzle as it is; both also after the first step.

    Args:
        voted: what the forms agree on (`solving.vote`); `single`: the answers to the puzzles as they are.
        right: tells which of the answers (N, L) are solutions, (N,).
    """
    share = lambda solved, step: float(np.mean(right(solved.answers[step])))
    values = {}
    for when, step in (("", -1), ("_first_step", 0)):
        values |= {f"voted{when}": share(voted, step), f"single_pass{when}": share(single, step)}
    return values


def interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95% interval of a share of so many (Wilson 1927)."""
    z = 1.959964
    middle, spread = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
    return (middle - spread) / (1 + z * z / count), (middle + spread) / (1 + z * z / count)


def describe(report: dict[str, Any]) -> str:
    """Return a report on puzzles for a reader."""
    lines = []
    for name, values in (("", report), ("averaged weights: ", report.get("averaged") or {})):
        if "solved_by_step" in values:
            low, high = interval(values["solved"], values["puzzles"])
            lines.append(
                f"{name}{values['solved']:.1%} of {values['puzzles']:,} test puzzles solved (95%: {low:.1%} to "
                f"{high:.1%}), {values['symbols']:.1%} of their symbols right"
            )
            lines.append(f"  after each step: {' '.join(f'{share:.1%}' for share in values['solved_by_step'])}")
            if "tasks" in values:
                lines.append("  tasks: " + ", ".join(f"{what} {share:.1%}" for what, share in values["tasks"].items()))
            if "solved_by_hardness" in values:
                by = (f"{level}: {share:.1%}" for level, (share, _) in values["solved_by_hardness"].items())
                lines.append(f"  by {values['hardness_is']}: {', '.join(by)}")
    lines.append(
        f"{report['params']:,} parameters, of these {report['id_params']:,} in embeddings of puzzles; "
        f"{report['flops']:.2g} FLOPs of training"
    )
    return "\n".join(lines)


def draw(puzzles: Puzzles, puzzle: np.ndarray, answers: np.ndarray, path: Path) -> Path:
    """Draw the answers (S, L) to a puzzle, a grid a step: a cell is green where the last answer says the same, red
    where it changed later; what the puzzle gives is grey."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows, columns = puzzles.shape
    steps = sorted({0, *np.linspace(0, len(answers) - 1, min(len(answers), 8)).round().astype(int).tolist()})
    figure, all_axes = plt.subplots(1, len(steps), figsize=(2.2 * len(steps), 2.6), layout="constrained", squeeze=False)
    for axes, step in zip(all_axes[0], steps, strict=True):
        answer, last = answers[step], answers[-1]
        colours = np.where((answer == last)[:, None], (0.75, 0.92, 0.75), (0.97, 0.72, 0.70))
        colours = np.where(((puzzle == answer) & (answer == last))[:, None], (0.88, 0.88, 0.88), colours)
        axes.imshow(colours.reshape(rows, columns, 3))
        for cell, token in enumerate(answer):
            where = cell % columns, cell // columns
            axes.text(
                *where, puzzles.symbols[token], ha="center", va="center", fontsize=max(3, 60 // max(rows, columns))
            )
        says = puzzles.wrong(puzzle, answer)
        axes.set_title(f"step {step + 1}{'' if says else ': solved'}", fontsize=8)
        axes.set(xticks=[], yticks=[])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def forward_flops(model: knobs.Model, params: Any) -> float:
    """Return the FLOPs of one application of f to one place of a puzzle: products with matrices, and attention; the
    delta rule is left out."""
    places = model.recursive.slots + model.context
    cores = model.by_layer(model.recursive.core)
    total = 0.0
    for path, leaf in paths(params).items():
        if path.startswith("block_") and leaf.ndim == 2:
            each = leaf.size * 2.0
            total += each * model.width / places if "/mixer/" in path and "mlp_t" in path else each
    assert set(cores) <= set(CORES)
    return total + 4.0 * model.width * places * cores.count("attention")


def train_flops(model: knobs.Model, params: Any) -> float:
    """Return the FLOPs of a training step on a place: T - 1 cycles forwards, and one of three times the cost."""
    own = model.recursive
    return forward_flops(model, params) * own.latents * (own.inner + 1) * (own.outer - 1 + 3)


def mean_train_flops(settings: config.Config, model: Model, params: Any) -> float:
    """Return `train_flops` on average over the steps of a run, whose cycles may grow."""
    begins, models = zip(*build.phases(settings, model), strict=True)
    lasts = np.diff([*begins, settings.train.steps]) / settings.train.steps
    return float(sum(train_flops(own.config, params) * share for own, share in zip(models, lasts, strict=True)))


def id_parameters(params: Any) -> int:
    """Return the number of parameters in embeddings of puzzles."""
    return sum(leaf.size for path, leaf in paths(jax.eval_shape(lambda: params)).items() if path == "ids")
