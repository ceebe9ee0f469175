"""The figures of the paper, each from results to a matplotlib figure."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from measures import File, Results, Suite

from juliagpt_jax.study import tables

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,
    "axes.linewidth": 0.6,
}
WIDTH = 6.4  # inches of a text line
LIKE = 0.1  # costs that are apart by less count as alike: steps were timed on shared cores


def close() -> None:
    """Forget the figures that were drawn."""
    plt.close("all")


def differences(results: Results, halves: Sequence[Sequence[Suite]]) -> Any:
    """Every arm's difference in loss to its baseline, suite under suite in two halves; intervals where there are three
    seeds."""
    most = max(sum(len(suite.others(results)) + 2 for suite in half) - 1 for half in halves)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(halves), figsize=(WIDTH, 0.5 + 0.116 * most), layout="constrained")
        for axes, half in zip(grid, halves, strict=True):
            place, names = 0, {}
            for suite in half:
                names[place] = suite.title
                for line in suite.others(results):
                    place += 1
                    names[place] = suite.label(line.arm)
                    gap, color = line.difference, "C0" if line.difference.tells else "0.55"
                    if gap.n > 2:
                        half_width = gap.high - gap.mean
                        axes.errorbar(gap.mean, place, xerr=half_width, fmt="o", markersize=3, capsize=2, color=color)
                    else:
                        axes.plot(gap.mean, place, "o", markersize=3, markerfacecolor="white", color="0.55")
                place += 2
            axes.axvline(0, color="black", linewidth=0.7)
            axes.set_yticks(list(names), list(names.values()))
            titles = {suite.title for suite in half}
            for label in axes.get_yticklabels():
                label.set_fontweight("bold" if label.get_text() in titles else "normal")
            axes.tick_params(axis="y", length=0, labelsize=6.5)
            axes.set(xlabel="difference in loss (nats)", ylim=(place - 1, -1))
            axes.grid(alpha=0.3, axis="x")
    return figure


def techniques(results: Results, suite: Suite) -> Any:
    """The arms of the cross-technique suite by their difference in loss, and the Pareto fronts of perplexity with what
    it costs in stored bytes and in seconds of training steps; named are the baseline and what is on a front: nothing is
    better at a cost that is LIKE it or lower."""
    lines = results.lines(suite)
    order = sorted(suite.others(results), key=lambda line: line.difference.mean)
    seconds = lambda row: row["step_s"] * row["curve"][-1][0]
    costs = {
        "stored weights (kB)": (lambda row: row["model_bytes"] / 1e3, (100, 200, 400)),
        "training steps (s)": (seconds, (30, 60, 120)),
    }
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(WIDTH, 0.6 + 0.15 * len(order)), layout="constrained")
        grid = figure.add_gridspec(len(costs), 2, width_ratios=(1.1, 1))
        left = figure.add_subplot(grid[:, 0])
        for place, line in enumerate(order):
            gap, color = line.difference, "C0" if line.difference.tells else "0.55"
            left.errorbar(
                gap.mean, place, xerr=gap.high - gap.mean, fmt="o", markersize=3, capsize=2, color=color, linewidth=1
            )
        left.axvline(0, color="black", linewidth=0.7)
        left.set_yticks(range(len(order)), [suite.label(line.arm) for line in order])
        left.tick_params(axis="y", length=0, labelsize=6.5)
        left.set(xlabel="difference in loss (nats)", ylim=(len(order) - 0.5, -0.5))
        left.grid(alpha=0.3, axis="x")
        for place, (title, (cost, ticks)) in enumerate(costs.items()):
            axes = figure.add_subplot(grid[place, 1])
            points = {
                arm: (statistics.fmean(map(cost, line.rows)), tables.mean(line.rows, "perplexity"))
                for arm, line in lines.items()
            }
            beaten = lambda a, points=points: any(b[1] < a[1] and b[0] < (1 + LIKE) * a[0] for b in points.values())
            front = [arm for arm, point in sorted(points.items(), key=lambda p: p[1]) if not beaten(point)]
            middle = math.sqrt(min(points.values())[0] * max(points.values())[0])
            for arm, point in points.items():
                named = arm in front or arm == suite.baseline
                color = "C3" if arm == suite.baseline else "C0" if named else "0.7"
                axes.plot(*point, "o", markersize=3.5, color=color, zorder=3 if named else 2)
                if named:
                    # names go where there is room: nothing is below a front
                    side, beside = ("right", -6) if point[0] > middle else ("left", 6)
                    below = (-12 if arm == front[0] else 0, -9)
                    text, offset = (suite.label(arm), below) if arm in front else (arm, (beside, -2))
                    axes.annotate(text, point, fontsize=6, xytext=offset, textcoords="offset points", ha=side)
            axes.step(*zip(*map(points.get, front), strict=True), "--", color="0.6", linewidth=0.8, where="post")
            axes.set_xscale("log")
            axes.minorticks_off()
            axes.set_xticks(ticks, map(str, ticks))
            axes.set(xlabel=title, ylabel="perplexity")
            axes.margins(0.12, 0.2)
            axes.grid(alpha=0.3)
    return figure


def solves(results: Results, sweep: File) -> Any:
    """Loss of one model a line, by the number of Euler steps it is solved with."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(0.6 * WIDTH, 2.4), layout="constrained")
        equal = [row for row in sweep.pick(results, {}) if "steps" in row]
        for model in dict.fromkeys(row["model"] for row in equal):
            points = [(row["steps"], row["loss"]) for row in equal if row["model"] == model]
            axes.plot(*zip(*points, strict=True), "o-", markersize=3, linewidth=1.2, label=f"trained on {model}")
        axes.set_xscale("log", base=2)
        steps = sorted({row["steps"] for row in equal})
        axes.set_xticks(steps, map(str, steps))
        axes.set(xlabel="Euler steps of the solve", ylabel="loss (nats)")
        axes.legend()
        axes.grid(alpha=0.3)
    return figure


def context(
    results: Results, cost: File, ratio: Callable[[Results, str, str, int], float], mixers: dict[str, str]
) -> Any:
    """Time and memory of each mixer over attention's, by context."""
    measures = {"train_s_per_token": "forward and backward", "decode_s_per_token": "decoding a token"}
    measures |= {"memory_bytes_per_token": "temporary memory"}
    contexts = sorted({row["context"] for row in cost.pick(results, {})})
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(measures), figsize=(WIDTH, 1.9), layout="constrained", sharey=True)
        for axes, (key, title) in zip(grid, measures.items(), strict=True):
            for mixer, label in mixers.items():
                values = [ratio(results, mixer, key, length) for length in contexts]
                axes.plot(contexts, values, "o-", markersize=3, linewidth=1.2, label=label)
            axes.axhline(1, color="black", linewidth=0.7)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2], ["0.05", "0.1", "0.2", "0.5", "1", "2"])
            axes.minorticks_off()
            axes.set_xticks(contexts[::2], [f"{length:,}" for length in contexts[::2]])
            axes.set(title=title, xlabel="context")
            axes.grid(alpha=0.3)
        grid[0].set_ylabel("of attention's")
        grid[0].legend()
    return figure
