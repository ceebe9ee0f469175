"""The page of a comparison with PyTorch (`parity.py`): the ratio of perplexities, and what it says."""

import math
import statistics
from typing import Any

from juliagpt_jax.study import parity, tables
from juliagpt_jax.study.statistics import Difference, paired, spread

WITHIN = 0.005  # perplexities count as the same within 0.5%


def gaps(rows: list[dict[str, Any]]) -> dict[str, Difference]:
    """{arm: JAX's loss minus this PyTorch arm's}, paired by seed, which gives both the same batches."""
    losses = {arm: {row["seed"]: row["loss"] for row in rows if row["arm"] == arm} for arm in parity.ARMS}
    return {arm: paired(losses[arm], losses["jax"]) for arm in parity.ARMS if arm != "jax"}


def verdict(gap: Difference) -> str:
    """Say in words how an interval of the ratio of perplexities stands to WITHIN."""
    if not gap.n or math.isnan(gap.low):
        return "too few seeds to tell"
    low, high = math.exp(gap.low), math.exp(gap.high)
    if low >= 1 - WITHIN and high <= 1 + WITHIN:
        return f"the same within {WITHIN:.1%}"
    if low > 1 + WITHIN or high < 1 - WITHIN:
        return f"not the same within {WITHIN:.1%}"
    half, room = (gap.high - gap.low) / 2, WITHIN - abs(gap.mean)
    more = f"; about {gap.n * (half / room) ** 2:,.0f} seeds would tell" if room > 0 else ""
    return f"open: the interval reaches beyond {WITHIN:.1%}{more}"


def page(head: list[str], values: dict[str, Any]) -> str:
    """The Markdown page of what was measured so far; `values` as the command writes them to parity.json."""
    parts = ["# The baseline in JAX and in PyTorch", "", *(f"- {line}" for line in head), ""]
    if "same" in values:
        parts += ["## The same weights and batches", "", *_same_section(values["same"])]
    if "trained" in values:
        parts += ["## Trained separately", "", *_trained_section(values["trained"])]
    if "speed" in values:
        parts += ["## Speed of training", "", *_speed_section(values["speed"])]
    return "\n".join(parts).rstrip() + "\n"


def _same_section(rows: list[dict[str, Any]]) -> list[str]:
    apart = [row for row in rows if not row["agrees"]]
    says = f"All {len(rows)} tensors agree." if not apart else f"**{len(apart)} of {len(rows)} tensors do not agree.**"
    table = [["", "tensor", "difference", "PyTorch's rounding", "largest", "tolerance", "agrees"]]
    for row in rows:
        numbers = [f"{row[key]:.1e}" for key in ("difference", "rounding", "largest", "tolerance")]
        shape = " x ".join(map(str, row["shape"])) or "scalar"
        table.append([row["what"], f"{row['tensor']} ({shape})", *numbers, "yes" if row["agrees"] else "**no**"])
    note = (
        f"Difference: the norm of JAX's tensor minus PyTorch's over the norm of PyTorch's; after the {parity.STEPS} "
        "steps of AdamW of what the tensor has moved. PyTorch's rounding: the same of PyTorch in float32 against "
        "itself in float64, from the same weights. Largest: of two numbers."
    )
    return [says, "", tables.markdown(table, [note])]


def _trained_section(values: dict[str, Any]) -> list[str]:
    rows, parts = values["rows"], []
    table = [["", "seeds", "loss (nats)", "bits/char", "perplexity", "JAX's perplexity over it [95%]", ""]]
    for arm, title in parity.ARMS.items():
        own = [row for row in rows if row["arm"] == arm]
        of = lambda key, own=own: spread([row[key] for row in own])
        ratio, says = "", ""
        if arm != "jax":
            gap = gaps(rows)[arm]
            ratio = " ".join([f"{math.exp(gap.mean):.4f}", _range(math.exp(gap.low), math.exp(gap.high))])
            says = verdict(gap)
        table.append([title, str(len(own)), of("loss"), of("bpc"), of("perplexity"), ratio, says])
    parts.append(
        tables.markdown(
            table,
            [
                f"{values['steps']:,} steps of {values['batch_size']} windows of {values['context']}, the same batches "
                "for the same seed; the whole validation text, each token scored once by the side that was trained. "
                "Mean ± standard deviation over seeds; ratios from losses paired by seed, t intervals.",
            ],
        )
    )
    return parts


def _speed_section(values: dict[str, Any]) -> list[str]:
    table = [["PyTorch", "JAX, tokens/s", "PyTorch, tokens/s", "ratio, median (range)", "rounds"]]
    for name, found in values.items():
        both = [f"{statistics.median(found[side]):,.0f}" for side in ("jax", "torch")]
        ratios = found["ratios"]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        table.append([name, *both, ratio, str(len(ratios))])
    return [tables.markdown(table, ["Whole train steps in turn, in one process, on the same threads."])]


def _range(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"[{low:.4f}, {high:.4f}]"
