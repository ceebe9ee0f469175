"""Every technique beside one baseline, on the classics at equal tokens: the table and the figure of the whole paper."""

import math
import statistics

import figures
from measures import COLUMNS, Column, Figure, Holds, Results, Statistic, Suite, Table, interval

from juliagpt_jax.study import tables
from juliagpt_jax.study.statistics import spread
from juliagpt_jax.study.tables import Line

TECHNIQUES = Suite(
    "techniques/results.jsonl",
    "baseline",
    labels={
        "baseline": "baseline (AdamW)",
        "adamw, two rates": "AdamW, two rates",
        "muon": "Muon",
        "soap": "SOAP",
        "kfac": "K-FAC",
        "qk_norm, zero_init": "qk norm + zero ends",
        "monarch, its channel too": "monarch, Monarch channel",
        "monarch_heads": "monarch heads",
        "ode, equal parameters": "ODE, equal parameters",
        "subln": "norms of ternary, dense",
        "stack": "SOAP + qk norm + zero ends",
        "stack with monarch_heads": "SOAP + zero ends + m. heads",
    },
)
SECOND = ("muon", "soap", "kfac")
DATA = ("easy first", "phase weights", "best 60% by quality", "bigram penalty")
BASE, WIDER, ODE = "baseline", "ternary, twice as wide", "ode, equal parameters"


def names(results: Results, sign: int, corrected: bool = False) -> list[str]:
    """The arms with an interval below zero (-1), above it (+1), or around it (0), the lowest mean first; if
    `corrected`, those whose p is below .05 after Holm as well."""
    gaps = [(x.difference, x) for x in TECHNIQUES.others(results)]
    found = [x for gap, x in sorted(gaps, key=lambda g: g[0].mean) if sign == (gap.low > 0) - (gap.high < 0)]
    return [x.arm for x in found if not corrected or x.corrected < 0.05]


def listed(sign: int, corrected: bool = False) -> Statistic:
    """These arms by their names in the paper: "SOAP (-0.110); Muon (-0.090)", or "none"; names alone if `corrected`."""

    def statistic(results: Results) -> str:
        mean = lambda arm: "" if corrected else f" ({TECHNIQUES.difference(results, arm).mean:+.3f})"
        texts = [TECHNIQUES.label(arm) + mean(arm) for arm in names(results, sign, corrected)]
        return "; ".join(texts) or "none"

    return statistic


def best(results: Results) -> Line:
    """The arm with the lowest mean."""
    return min(TECHNIQUES.others(results), key=lambda line: line.difference.mean)


def reached(_: Suite, line: Line) -> str:
    """The median of steps to the baseline's loss, with how many seeds never get there in brackets."""
    middle, never = statistics.median(line.steps), sum(map(math.isinf, line.steps))
    return "never" if math.isinf(middle) else f"{middle:,.0f}" + (f" ({never})" if never else "")


def mean(key: str, unit: float, form: str) -> Column:
    """A measure in a unit, its mean over the seeds."""
    return lambda suite, line: format(tables.mean(line.rows, key) / unit, form)


SHOWN: dict[str, Column] = {
    "": COLUMNS[""],
    "perplexity": lambda suite, line: spread([row["perplexity"] for row in line.rows], ".2f"),
    "bits": mean("bpc", 1, ".3f"),
    "difference [95%]": COLUMNS["difference [95%]"],
    "p": COLUMNS["p"],
    "steps": reached,
    "k": mean("params", 1e3, ",.0f"),
    "TFLOP": mean("flops", 1e12, ".2f"),
    "ms": mean("step_s", 1e-3, ".0f"),
    "MB": mean("step_memory_bytes", 1e6, ".0f"),
    "char/s": mean("chars_per_s", 1, ",.0f"),
    "kB": mean("model_bytes", 1e3, ",.0f"),
}


def techniques_table(results: Results) -> list[list[str]]:
    """The arms, with what each does and what it costs."""
    lines = results.lines(TECHNIQUES).values()
    return [list(SHOWN), *([show(TECHNIQUES, line) for show in SHOWN.values()] for line in lines)]


NUMBERS: dict[str, Statistic] = {
    "TechniquesArms": TECHNIQUES.comparisons(),
    "TechniquesSteps": TECHNIQUES.value({}, "config.train.steps", ",d"),
    "TechniquesTokens": TECHNIQUES.value({}, "tokens", ",d"),
    "TechniquesSeeds": TECHNIQUES.distinct({}, "seed"),
    "TechniquesCharacters": TECHNIQUES.value({}, "characters", ",d"),
    "TechniquesRate": TECHNIQUES.value(BASE, "config.train.lr"),
    "TechniquesBetter": listed(-1),
    "TechniquesBetterHolm": listed(-1, corrected=True),
    "TechniquesWorse": listed(1),
    "TechniquesLevel": listed(0),
    "TechniquesBest": lambda results: TECHNIQUES.label(best(results).arm),
    "TechniquesBestGap": lambda results: interval(best(results).difference),
    "TechniquesBestPerplexity": lambda results: f"{tables.mean(best(results).rows, 'perplexity'):.2f}",
    "TechniquesBasePerplexity": TECHNIQUES.mean(BASE, "perplexity", ".2f"),
    "TechniquesBestLess": lambda results: TECHNIQUES.steps_less(best(results).arm)(results),
    "TechniquesBestTime": lambda results: TECHNIQUES.times(best(results).arm, BASE, "step_s")(results),
    **{f"Techniques{k.title()}Time": TECHNIQUES.times(k, BASE, "step_s") for k in SECOND},
    "TechniquesHeadsWrite": TECHNIQUES.times("monarch_heads", BASE, "chars_per_s"),
    "TechniquesOdeTime": TECHNIQUES.times(ODE, BASE, "step_s"),
    "TechniquesOdeWrite": TECHNIQUES.times(ODE, BASE, "chars_per_s"),
    "TechniquesTernaryBytes": TECHNIQUES.times("ternary", BASE, "model_bytes", ".2f"),
    "TechniquesWiderBytes": TECHNIQUES.times(WIDER, BASE, "model_bytes", ".2f"),
    "TechniquesWiderGap": TECHNIQUES.gap(WIDER),
    "TechniquesTernaryControl": TECHNIQUES.gap("ternary", "subln"),
}

TABLES: dict[str, Table] = {"techniques": techniques_table}

FIGURES: dict[str, Figure] = {"techniques": lambda results: figures.techniques(results, TECHNIQUES)}

HOLDS: Holds = {
    "TechniquesNoData": (
        "no data technique is better than the baseline by an interval that leaves out zero",
        lambda results: not set(DATA) & set(names(results, -1)),
    ),
    "TechniquesOptimizers": (
        "Muon, SOAP and K-FAC are better than the baseline by intervals that leave out zero",
        lambda results: set(SECOND) <= set(names(results, -1)),
    ),
}
