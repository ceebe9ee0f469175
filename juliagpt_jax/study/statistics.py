"""Statistics over a few seeds: paired differences with intervals, steps to a target, correction for many
comparisons."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Difference:
    """A mean of paired differences with its 95% t interval; `p` of the two-sided t test. nan with fewer than two."""

    mean: float
    low: float
    high: float
    p: float
    n: int

    @property
    def tells(self) -> bool:
        """True where the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def paired(baseline: Mapping[int, float], arm: Mapping[int, float]) -> Difference:
    """arm - baseline over the seeds both have. The same seed gives both the same initial weights and, where the data
    technique leaves it alone, the same batches: pairing takes that part of the noise out."""
    from scipy import stats

    seeds = sorted(set(baseline) & set(arm))
    gaps = np.array([arm[s] - baseline[s] for s in seeds], float)
    n = len(gaps)
    mean = float(gaps.mean()) if n else math.nan
    if n < 2:
        return Difference(mean, math.nan, math.nan, math.nan, n)
    error = float(gaps.std(ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf(0.975, n - 1)) * error
    if error == 0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0, n)
    return Difference(mean, mean - half, mean + half, 2 * float(stats.t.sf(abs(mean) / error, n - 1)), n)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction: the chance of even one false claim among all stays below the level (Holm 1979).
    nan stays nan and does not count."""
    known = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    corrected, worst = {name: math.nan for name in p_values}, 0.0
    for rank, (p, name) in enumerate(known):
        worst = max(worst, min(1.0, p * (len(known) - rank)))
        corrected[name] = worst
    return corrected


def steps_to(curve: Sequence[Sequence[float]], target: float) -> float:
    """The step at which a validation curve [(step, loss), ...] first reaches a target, between two measurements by a
    straight line; inf if it never does in the budget (a censored observation: more steps might reach it)."""
    before: Sequence[float] | None = None
    for step, loss in curve:
        if loss is not None and loss <= target:
            if before is None or before[1] is None:
                return float(step)
            return before[0] + (step - before[0]) * (before[1] - target) / (before[1] - loss)
        before = (step, loss)
    return math.inf


def spread(values: Sequence[float], form: str = ".4f") -> str:
    """Mean ± standard deviation, for a table."""
    if not values:
        return "-"
    text = format(float(np.mean(values)), form)
    return f"{text} ± {format(float(np.std(values, ddof=1)), form)}" if len(values) > 1 else text


def at_best_rate(rows: Iterable[Mapping[str, Any]], *measures: str) -> list[Mapping[str, Any]]:
    """Return the rows of the learning rate whose measures, higher is better, have the highest mean over its rows; of
    the lowest of equal rates. Choose on other data than you report.

    Raises:
        ValueError: there are no rows.
    """
    rows = list(rows)
    mean = lambda rate: np.mean([[row[name] for name in measures] for row in rows if row["rate"] == rate])
    best = max(sorted({row["rate"] for row in rows}), key=mean)
    return [row for row in rows if row["rate"] == best]
