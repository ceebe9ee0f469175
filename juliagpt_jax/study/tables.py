"""Rows of results as one comparison, written as Markdown, CSV and LaTeX."""

import csv
import dataclasses
import io
import math
import statistics
from collections.abc import Sequence
from typing import Any

from juliagpt_jax.study.statistics import Difference, holm, paired, spread, steps_to

UNITS = {"loss": "loss", "bpc": "bits/char"}  # what can be compared: a key of a row, and its name
# How a suite's measures are shown: title, unit, format. Others are shown as they are.
MEASURES = {
    "active_params": ("parameters a token goes through", 1.0, ",.0f"),
    "step_s": ("ms a step", 1e-3, ".1f"),
    "wall_s": ("seconds in all", 1.0, ",.0f"),
    "step_memory_bytes": ("memory of a step, MB", 1e6, ".1f"),
    "peak_memory_bytes": ("peak memory, MB", 1e6, ",.0f"),
    "model_bytes": ("stored weights, MB", 1e6, ".3f"),
    "chars_per_s": ("characters/s written", 1.0, ",.0f"),
}


@dataclasses.dataclass(frozen=True)
class Line:
    """One arm of a comparison, over its finished seeds."""

    arm: str
    rows: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    unit: str  # of UNITS: what is compared, and what `curve` has
    difference: Difference  # to the baseline
    corrected: float  # p after Holm
    steps: list[float]  # each seed's steps to where the baseline of the same seed ends
    seconds: list[float]  # the same, times the median time of its steps; without evaluation and compilation

    def curve(self, row: dict[str, Any]) -> list[tuple[int, Any]]:
        """A row's validation curve, (step, value), None for a value that is no number."""
        return _curve(row, self.unit)


def _curve(row: dict[str, Any], unit: str) -> list[tuple[int, Any]]:
    scale = row["bpc"] / row["loss"] if unit == "bpc" and row["loss"] else 1.0
    return [(step, None if loss is None else loss * scale) for step, loss in row["curve"]]


def compare(rows: list[dict[str, Any]], arms: Sequence[str], baseline: str) -> list[Line]:
    """One line an arm, in the order given. What is compared is the loss; where tokens are not the same for all arms,
    bits per character."""
    done = {arm: {r["seed"]: r for r in rows if r["arm"] == arm and r["status"] == "done"} for arm in arms}
    tokenizers = {r.get("config", {}).get("data.tokenizer") for a in arms for r in done[a].values()}
    unit = "bpc" if len(tokenizers - {None}) > 1 else "loss"  # None: rows older than the knob
    losses = {arm: {s: r[unit] for s, r in done[arm].items() if r[unit] is not None} for arm in arms}
    gaps = {arm: paired(losses[baseline], losses[arm]) for arm in arms}
    corrected = holm({arm: gaps[arm].p for arm in arms if arm != baseline}) | {baseline: math.nan}
    targets = {seed: _curve(row, unit)[-1][1] for seed, row in done[baseline].items() if row["curve"]}
    lines = []
    for arm in arms:
        timed = [(r, targets[s]) for s, r in done[arm].items() if s in targets]
        reached = [(steps_to(_curve(r, unit), target), r.get("step_s")) for r, target in timed]
        lines.append(
            Line(
                arm,
                list(done[arm].values()),
                [r for r in rows if r["arm"] == arm and r["status"] != "done"],
                unit,
                gaps[arm],
                corrected[arm],
                [steps for steps, _ in reached],
                [steps * step_s for steps, step_s in reached if step_s],
            )
        )
    return lines


def cells(lines: Sequence[Line], baseline: str, measures: Sequence[str] = ()) -> list[list[str]]:
    """The table as texts, the first row its head."""
    unit = UNITS[lines[0].unit]
    head = ["arm", "seeds", "loss (nats)", "bits/char", "perplexity", f"difference in {unit} [95%]", "p (Holm)"]
    head += [f"steps to the baseline's {unit}", "seconds", "parameters", "training FLOPs", "tokens/s"]
    head += [MEASURES[m][0] if m in MEASURES else m for m in measures]
    table = [head]
    for line in lines:
        rows = line.rows
        values = lambda key: [v for r in rows if (v := dig(r, key)) is not None]  # noqa: B023  used at once
        same = line.arm == baseline
        table.append(
            [
                line.arm,
                str(len(rows)) + (f" + {len(line.failed)} FAILED" if line.failed else ""),
                spread(values("loss")),
                spread(values("bpc")),
                spread(values("perplexity")),
                "" if same else interval(line.difference),
                "" if same or math.isnan(line.corrected) else f"{line.corrected:.2g}",
                reached(line.steps),
                reached(line.seconds),
                f"{rows[0]['params']:,}" if rows else "-",
                f"{rows[0]['flops']:.3g}" if rows else "-",
                f"{statistics.median(values('tokens_per_s')):,.0f}" if values("tokens_per_s") else "-",
                *(_measured(values(m), m) for m in measures),
            ]
        )
    return table


def _measured(values: Sequence[float], key: str) -> str:
    _, unit, form = MEASURES.get(key, ("", 1.0, ".4f"))
    return spread([value / unit for value in values], form)


def dig(row: Any, key: str) -> Any:
    """row["a"]["b"] for "a.b"; None where there is no such thing."""
    for part in key.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    """Over the rows that have it; nan without any."""
    values = [v for row in rows if (v := dig(row, key)) is not None]
    return statistics.fmean(values) if values else math.nan


def interval(difference: Difference) -> str:
    """ "+0.0123 [-0.0020, +0.0266]", or what can be said with fewer than two seeds."""
    if difference.n < 2:
        return f"{difference.mean:+.4f} (one seed)" if difference.n else "-"
    return f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def reached(steps: Sequence[float]) -> str:
    """The median of steps or seconds to a target; how many seeds never got there is said."""
    never = sum(math.isinf(s) for s in steps)
    if not steps or never == len(steps):
        return "not reached" if steps else "-"
    middle = statistics.median(steps)
    text = "more than the budget" if math.isinf(middle) else f"{middle:,.0f}"
    return text + (f" ({never} of {len(steps)} never)" if never else "")


def notes(lines: Sequence[Line], baseline: str) -> list[str]:
    """Notes below a table: protocol, hardware, failures, and whether the seeds suffice."""
    rows = [r for line in lines for r in line.rows]
    if not rows:
        return ["No cell finished.", *_failures(lines)]
    facts = [
        f"Validation: {_all(rows, 'characters')} characters, each scored once, context {_all(rows, 'context')}, "
        f"stride {_all(rows, 'stride')}. Training tokens: {_all(rows, 'tokens')}. Mean ± standard deviation over "
        "seeds; differences are paired by seed, with t intervals. Steps: median over seeds, to the loss that the "
        "baseline of the same seed ends with, on the fixed validation windows; seconds: those steps times the run's "
        "median time of a step, which a busy machine lengthens.",
        f"Machine: {_all(rows, 'machine')}; {_all(rows, 'device')}; "
        f"{', '.join(f'{k} {v}' for k, v in rows[0]['versions'].items())}.",
    ]
    others = [line for line in lines if line.arm != baseline and line.difference.n]
    few = sorted({line.difference.n for line in others if line.difference.n < 3})
    if few:
        facts.append(f"Too few seeds to tell ({few[0]}): three pairs are the least that an interval is worth.")
    open_ = [line.arm for line in others if line.difference.n >= 3 and not line.difference.tells]
    if open_:
        facts.append(f"Not told apart from {baseline} by these seeds: {', '.join(open_)}.")
    return facts + _failures(lines)


def _failures(lines: Sequence[Line]) -> list[str]:
    return [f"FAILED: {r['arm']}, seed {r['seed']}: {r['error']}" for line in lines for r in line.failed]


def _all(rows: list[dict[str, Any]], key: str) -> str:
    values = {f"{r[key]:,}" if isinstance(r[key], int) else str(r[key]) for r in rows if key in r}
    return " / ".join(sorted(values))


def markdown(table: list[list[str]], under: Sequence[str] = ()) -> str:
    """A Markdown table with paragraphs under it."""
    lines = [f"| {' | '.join(row)} |" for row in table]
    lines.insert(1, "|" + "---|" * len(table[0]))
    return "\n".join([*lines, "", *(f"{note}\n" for note in under)]) + "\n"


def comma_separated(table: list[list[str]]) -> str:
    """The table as CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(table)
    return out.getvalue()


def latex(table: list[list[str]]) -> str:
    """A booktabs tabular."""
    signs = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "$": r"\$"}
    clean = lambda text: "".join(signs[c] if c in signs else c for c in text)
    body = [" & ".join(map(clean, row)) + r" \\" for row in table]
    frame = [rf"\begin{{tabular}}{{l{'r' * (len(table[0]) - 1)}}}", r"\toprule", body[0], r"\midrule", *body[1:]]
    return "\n".join([*frame, r"\bottomrule", r"\end{tabular}"]) + "\n"
