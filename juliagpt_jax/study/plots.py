"""Plots of a comparison: curves, differences with intervals, perplexity against size."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from juliagpt_jax.study.tables import Line


def draw(lines: Sequence[Line], baseline: str, folder: Path) -> list[Path]:
    """Write curves.png, differences.png and size.png; returns those that there was something to draw for."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    done = [line for line in lines if line.rows]
    written = []

    def save(figure, name: str) -> None:
        figure.savefig(folder / name, dpi=110)
        plt.close(figure)
        written.append(folder / name)

    if any(r["curve"] for line in done for r in line.rows):
        figure, axes = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
        for number, line in enumerate(done):
            steps = [s for s, _ in line.rows[0]["curve"]]
            losses = np.array([[v for _, v in r["curve"]] for r in line.rows if len(r["curve"]) == len(steps)], float)
            color = plt.get_cmap("tab20")(number % 20)
            axes.plot(steps, losses.mean(0), label=line.arm, color=color, linewidth=1.4)
            if len(losses) > 1:
                axes.fill_between(steps, losses.min(0), losses.max(0), color=color, alpha=0.12, linewidth=0)
        known = [v for line in done for r in line.rows for _, v in r["curve"] if v is not None]
        final = [r["curve"][-1][1] for line in done for r in line.rows if r["curve"] and r["curve"][-1][1] is not None]
        if final:  # the end of training tells the arms apart, its steep beginning does not
            low, high = min(known), max(final)
            axes.set_ylim(low - 0.02, min(max(known), low + 6 * (high - low + 0.05)))
        axes.set(xlabel="step", ylabel="validation loss (nats), mean and range over seeds")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, ncols=2)
        save(figure, "curves.png")

    others = [line for line in done if line.arm != baseline and not math.isnan(line.difference.mean)]
    if others:
        figure, axes = plt.subplots(figsize=(7.5, 1.2 + 0.28 * len(others)), layout="constrained")
        for place, line in enumerate(reversed(others)):
            gap = line.difference
            low, high = (gap.mean - gap.low, gap.high - gap.mean) if gap.n > 1 else (0.0, 0.0)
            axes.errorbar(gap.mean, place, xerr=[[low], [high]], fmt="o", capsize=3, color="C0" if gap.tells else "0.6")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(others)), [line.arm for line in reversed(others)], fontsize=8)
        axes.set(xlabel=f"loss minus {baseline} (nats), paired by seed, 95% interval; grey: includes zero")
        axes.grid(alpha=0.3, axis="x")
        save(figure, "differences.png")

    if len({line.rows[0]["params"] for line in done}) > 1:
        figure, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
        for line in done:
            perplexities = [r["perplexity"] for r in line.rows if r["perplexity"] is not None]
            if perplexities:
                axes.plot(
                    line.rows[0]["params"], np.mean(perplexities), "o", color="C3" if line.arm == baseline else "C0"
                )
                place = (line.rows[0]["params"], float(np.mean(perplexities)))
                axes.annotate(line.arm, place, fontsize=7, xytext=(4, 3), textcoords="offset points")
        axes.set(xlabel="parameters", ylabel="validation perplexity")
        axes.grid(alpha=0.3)
        save(figure, "size.png")
    return written
