"""Plots of a comparison: curves, differences with intervals, Pareto fronts of perplexity and what it costs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.ground.knobs.names import modern_names
from juliagpt_jax.study import tables
from juliagpt_jax.study.tables import Line

UNITS = {"steps": "step", "tokens": "tokens", "flops": "training FLOPs", "seconds": "seconds of training steps"}
WHAT = {"loss": "loss (nats)", "bpc": "bits per character", "perplexity": "perplexity"}  # by key of a row
# What perplexity is drawn against, where the arms differ in it: a key of a row, its label and the file.
PARETO = (
    ("params", "parameters", "size.png"),
    ("chars_per_s", "characters/s, 20 texts at a time", "speed.png"),
    ("model_bytes", "bytes of the stored weights", "bytes.png"),
)


def draw(lines: Sequence[Line], baseline: str, folder: Path) -> list[Path]:
    """Write curves.png, differences.png and those of PARETO; returns what there was something to draw for."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    done = [line for line in lines if line.rows]
    written = []

    def save(figure, name: str) -> None:
        figure.savefig(folder / name, dpi=110)
        plt.close(figure)
        written.append(folder / name)

    curves = {line.arm: line for line in done if any(r["curve"] for r in line.rows)}
    # Steps of arms that differ in what a step costs say little: then all that they spend is drawn.
    units = ["steps", *(u for u in ("tokens", "flops", "seconds") if len({_cost(x.rows[0], u) for x in done}) > 1)]
    if curves:
        columns = min(2, len(units))
        size = (7.5 if columns == 1 else 12, 4.6 * -(-len(units) // columns))
        figure, grid = plt.subplots(
            -(-len(units) // columns), columns, figsize=size, layout="constrained", squeeze=False
        )
        for axes in grid.flat[len(units) :]:
            axes.set_visible(False)
        drawn = [line.curve(row) for line in curves.values() for row in line.rows if row["curve"]]
        known = [v for curve in drawn for _, v in curve if v is not None]
        final = [curve[-1][1] for curve in drawn if curve[-1][1] is not None]
        for axes, unit in zip(grid.flat, units, strict=False):
            for number, line in enumerate(curves.values()):
                steps = [s for s, _ in line.rows[0]["curve"]]
                same = [row for row in line.rows if len(row["curve"]) == len(steps)]
                losses = np.array([[v for _, v in line.curve(row)] for row in same], float)
                spent = np.array(steps) * (_cost(line.rows[0], unit) or math.nan)
                color = plt.get_cmap("tab20")(number % 20)
                axes.plot(spent, losses.mean(0), label=line.arm, color=color, linewidth=1.4)
                if len(losses) > 1:
                    axes.fill_between(spent, losses.min(0), losses.max(0), color=color, alpha=0.12, linewidth=0)
            if final:  # the end of training tells the arms apart, its steep beginning does not
                low, high = min(known), max(final)
                axes.set_ylim(low - 0.02, min(max(known), low + 6 * (high - low + 0.05)))
            axes.set(xlabel=UNITS[unit], ylabel=f"validation {WHAT[done[0].unit]}, mean and range over seeds")
            axes.grid(alpha=0.3)
        grid.flat[0].legend(fontsize=7, ncols=2)
        save(figure, "curves.png")

    others = [line for line in done if line.arm != baseline and not math.isnan(line.difference.mean)]
    if others:
        figure, axes = plt.subplots(figsize=(7.5, 1.2 + 0.28 * len(others)), layout="constrained")
        for row, line in enumerate(reversed(others)):
            gap = line.difference
            low, high = (gap.mean - gap.low, gap.high - gap.mean) if gap.n > 1 else (0.0, 0.0)
            axes.errorbar(gap.mean, row, xerr=[[low], [high]], fmt="o", capsize=3, color="C0" if gap.tells else "0.6")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(others)), [line.arm for line in reversed(others)], fontsize=8)
        axes.set(xlabel=f"{WHAT[done[0].unit]} minus {baseline}, paired by seed, 95% interval; grey: includes zero")
        axes.grid(alpha=0.3, axis="x")
        save(figure, "differences.png")

    for key, label, name in PARETO:
        height = "perplexity" if done[0].unit == "loss" else "bpc"
        values = [(line, tables.mean(line.rows, key), tables.mean(line.rows, height)) for line in done]
        points = [(line, x, y) for line, x, y in values if math.isfinite(x) and math.isfinite(y)]
        if len({x for _, x, _ in points}) < 2 or len({_model(line) for line in done}) < 2:
            continue  # of one model speeds differ by what else the machine does
        figure, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
        for line, x, y in points:
            axes.plot(x, y, "o", color="C3" if line.arm == baseline else "C0")
            axes.annotate(line.arm, (x, y), fontsize=7, xytext=(4, 3), textcoords="offset points")
        best = front([(-x if key == "chars_per_s" else x, y) for _, x, y in points])
        axes.step(
            *zip(*sorted((points[i][1], points[i][2]) for i in best), strict=True),
            "--",
            color="0.6",
            linewidth=0.8,
            where="pre" if key == "chars_per_s" else "post",
        )
        axes.set(xlabel=label, ylabel=f"validation {WHAT[height]}")
        axes.grid(alpha=0.3)
        save(figure, name)
    return written


def _model(line: Line) -> str:
    """Return the knobs that decide the cost of an arm's model."""
    knobs = modern_names(line.rows[0].get("config", {}))
    return str({key: value for key, value in sorted(knobs.items()) if key.startswith("model.")})


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the Pareto front, where both numbers are better small: of the points without another that is at most
    as large in both and smaller in one."""
    beaten = lambda a: any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in points)
    return [i for i, point in enumerate(points) if not beaten(point)]


def _cost(row: dict[str, Any], unit: str) -> float | None:
    """Cost of a step of a run in a unit; None if it is not known."""
    steps = row["curve"][-1][0] if row["curve"] else 0
    whole = {"tokens": row.get("tokens"), "flops": row.get("flops")}
    if unit == "steps" or not steps:
        return 1.0
    return row.get("step_s") if unit == "seconds" else (whole[unit] or math.nan) / steps
