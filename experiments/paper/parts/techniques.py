"""Every technique beside one baseline, on the classics at equal tokens: the table and the figure of the whole paper."""

import math
import statistics

import figures
from measures import COLUMNS, Column, Figure, Holds, Results, Statistic, Suite, Table, interval
from parts.data import DATA as ORDERS
from parts.depth import ODE as DEPTH
from parts.depth import WIDE
from parts.optimizers import BEST, OPTIMIZERS, STACK, SWITCHES

from juliagpt_jax.study import tables
from juliagpt_jax.study.statistics import spread
from juliagpt_jax.study.tables import Line

TECHNIQUES = Suite(
    "techniques/results/all/results.jsonl",
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
BASE, WIDER, ODE, PAIR = "baseline", "ternary, twice as wide", "ode, equal parameters", "qk_norm, zero_init"
HEADS, BOTH = "monarch_heads", "stack with monarch_heads"


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


def seconds(results: Results, arm: str) -> float:
    """Seconds of steps to the baseline's loss, of the baseline's: the medians."""
    taken = lambda name: statistics.median(TECHNIQUES.line(results, name).seconds)
    return taken(arm) / taken(BASE)


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
    "TechniquesBestHeads": lambda results: TECHNIQUES.gap(HEADS, best(results).arm)(results),
    "TechniquesHeadsGap": TECHNIQUES.gap(HEADS),
    "TechniquesHeadsP": TECHNIQUES.p(HEADS),
    "TechniquesHeadsLess": TECHNIQUES.steps_less(HEADS),
    "TechniquesHeadsTime": TECHNIQUES.times(HEADS, BASE, "step_s", ".2f"),
    "TechniquesHeadsMemory": TECHNIQUES.times(HEADS, BASE, "step_memory_bytes"),
    "TechniquesHeadsSeconds": lambda results: f"{seconds(results, HEADS):.0%}",
    "TechniquesBothHeads": TECHNIQUES.gap(BOTH, HEADS),
    "TechniquesStackBoth": TECHNIQUES.gap("stack", BOTH),
    "TechniquesStackSoap": TECHNIQUES.gap("stack", "soap"),
    "TechniquesPairGap": TECHNIQUES.gap(PAIR),
    "TechniquesPairP": TECHNIQUES.p(PAIR),
    "TechniquesRatesGap": TECHNIQUES.gap("adamw, two rates"),
    "TechniquesSoapGap": TECHNIQUES.gap("soap"),
    "TechniquesSoapSchool": OPTIMIZERS.gap("soap", "adamw, one rate"),
    "TechniquesKfacSoap": TECHNIQUES.gap("kfac", "soap"),
    "TechniquesKfacLess": TECHNIQUES.steps_less("kfac"),
    "TechniquesOdeGap": TECHNIQUES.gap(ODE),
    "TechniquesOdeP": TECHNIQUES.p(ODE),
    "TechniquesQualityP": TECHNIQUES.p("best 60% by quality"),
    "TechniquesSmallLess": TECHNIQUES.less("monarch, its channel too", BASE, "params"),
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
    "TechniquesAfterHolm": (
        "SOAP, K-FAC, Muon, and SOAP with two switches, and nothing else, are ahead after Holm's correction",
        lambda results: set(names(results, -1, corrected=True)) == {"stack", *SECOND},
    ),
    "TechniquesBestIsStack": (
        "SOAP with the two switches has the lowest loss",
        lambda results: best(results).arm == "stack",
    ),
    "TechniquesHeadsCheap": (
        "monarch heads are ahead, in steps as long as the baseline's, and write faster",
        lambda results: (
            HEADS in names(results, -1)
            and 0.9 < float(TECHNIQUES.times(HEADS, BASE, "step_s", ".3f")(results)) < 1.1
            and float(TECHNIQUES.times(HEADS, BASE, "chars_per_s", ".3f")(results)) > 1.2
        ),
    ),
    "TechniquesMonarchSeconds": (
        "only Monarch sequence mixers with AdamW reach the baseline's loss in three quarters of its seconds",
        lambda results: (
            {x.arm for x in TECHNIQUES.others(results) if seconds(results, x.arm) < 0.75}
            == {"monarch", "monarch, its channel too", HEADS}
        ),
    ),
    "TechniquesDoNotAdd": (
        "SOAP with monarch heads is a little ahead of these alone, and not told from SOAP with the two switches",
        lambda results: (
            -0.02 < TECHNIQUES.difference(results, BOTH, HEADS).mean
            and TECHNIQUES.difference(results, BOTH, HEADS).high < 0
            and not TECHNIQUES.difference(results, "stack", BOTH).tells
        ),
    ),
    "TechniquesHeadsBehindBest": (
        "monarch heads alone are behind the lowest loss",
        lambda results: TECHNIQUES.difference(results, best(results).arm, HEADS).high < 0,
    ),
    "TechniquesTernaryLevel": (
        "ternary weights are told neither from dense ones nor from the baseline, nor at twice the width",
        lambda results: (
            not (
                TECHNIQUES.difference(results, "ternary", "subln").tells
                or TECHNIQUES.difference(results, "ternary").tells
                or TECHNIQUES.difference(results, WIDER).tells
            )
        ),
    ),
    "TechniquesRates": (
        "two rates are not told from one, here as on the schoolroom's three seeds",
        lambda results: (
            not (
                TECHNIQUES.difference(results, "adamw, two rates").tells
                or OPTIMIZERS.difference(results, "adamw, one rate").tells
            )
        ),
    ),
    "TechniquesSmaller": (
        "SOAP and the ODE gain less here than in the schoolroom, by intervals that do not meet",
        lambda results: (
            TECHNIQUES.difference(results, "soap").low > OPTIMIZERS.difference(results, "soap", "adamw, one rate").high
            and TECHNIQUES.difference(results, ODE).low > DEPTH.difference(results, WIDE).high
        ),
    ),
    "TechniquesOdeHolm": (
        "the ODE is told after Holm in the schoolroom and not here",
        lambda results: DEPTH.line(results, WIDE).corrected < 0.05 < TECHNIQUES.line(results, ODE).corrected,
    ),
    "TechniquesKfacSoapOpen": (
        "K-FAC and SOAP are not told apart, here as in the schoolroom, where K-FAC's mean is the lower one",
        lambda results: (
            not TECHNIQUES.difference(results, "kfac", "soap").tells
            and not OPTIMIZERS.difference(results, "kfac", "soap").tells
            and OPTIMIZERS.difference(results, "kfac", "soap").mean
            < 0
            < TECHNIQUES.difference(results, "kfac", "soap").mean
        ),
    ),
    "TechniquesFortyMissed": (
        "K-FAC takes 40% fewer steps than AdamW with one rate in the schoolroom and not here",
        lambda results: (
            OPTIMIZERS.steps_to(results, "kfac", "adamw, one rate") <= 0.6 * 500
            and min(TECHNIQUES.steps_to(results, kind) for kind in SECOND) > 0.6 * 1000
        ),
    ),
    "TechniquesSwitches": (
        "the two switches are told before Holm only, zero ends alone not in the schoolroom; together they add to SOAP",
        lambda results: (
            TECHNIQUES.difference(results, PAIR).high < 0
            and TECHNIQUES.line(results, PAIR).corrected > 0.05
            and not SWITCHES.difference(results, "zero_init").tells
            and TECHNIQUES.difference(results, "stack", "soap").high < 0
            and STACK.difference(results, BEST, "soap").high < 0
        ),
    ),
    "TechniquesQuality": (
        "the best 60% by quality is worse here before Holm only, and not told in the suite of data techniques",
        lambda results: (
            TECHNIQUES.difference(results, "best 60% by quality").low > 0
            and TECHNIQUES.line(results, "best 60% by quality").corrected > 0.05
            and not ORDERS.difference(results, "best 60% by quality").tells
        ),
    ),
}
