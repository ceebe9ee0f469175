"""The figures of the paper, each from results to a matplotlib figure."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from measures import File, Results, Suite

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,
    "axes.linewidth": 0.6,
}
WIDTH = 6.4  # inches of a text line


def close() -> None:
    """Forget the figures that were drawn."""
    plt.close("all")


def differences(results: Results, halves: Sequence[Sequence[Suite]]) -> Any:
    """Every arm's difference in loss to its baseline, suite under suite in two halves; intervals where there are three
    seeds."""
    most = max(sum(len(suite.others(results)) + 2 for suite in half) - 1 for half in halves)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(halves), figsize=(WIDTH, 0.5 + 0.132 * most), layout="constrained")
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
