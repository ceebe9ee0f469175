"""What the paper takes from the results: a macro for each number, tables, figures, and sentences that hang on them.

Each section's are in a file of parts/; here they are put together, with what is said of all suites at once. A sentence
that depends on a sign or an interval has a macro, \\Holds and its name in HOLDS, which prints nothing and stands behind
it: build.py refuses to make a paper that says what the results do not.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import figures
from measures import Figure, Holds, Results, Statistic
from parts import (
    ablation,
    after,
    attention,
    baseline,
    bits,
    data,
    depth,
    learned,
    mixers,
    optimizers,
    promises,
    recursion,
    techniques,
    vocabulary,
    words,
)
from parts.bits import TERNARY
from parts.data import CORESET, CORPUS, DATA
from parts.depth import BEND, ODE, SHAPE, WIDE, WINDOWS
from parts.mixers import HEADS, MONARCH, SMALL
from parts.optimizers import OPTIMIZERS, SECONDS, STACK, SWITCHES
from parts.techniques import TECHNIQUES

from juliagpt_jax.study.tables import Line

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    *(techniques, data, vocabulary, words, mixers, attention, ablation, depth, recursion, bits, optimizers, after),
    *(baseline, learned, promises),
)

# The figure of all differences: its left half, whose effects are small, and its right half.
COMPARED = (
    [DATA, CORESET, CORPUS, WINDOWS, SWITCHES],
    [SHAPE, TERNARY, MONARCH, ODE, BEND, OPTIMIZERS, SECONDS, STACK],
)
SUITES = (TECHNIQUES, *COMPARED[0], *COMPARED[1])  # of this figure and that of the techniques


def every(results: Results, key: str) -> Iterator[Any]:
    """A field of every row behind these two figures."""
    return (row[key] for suite in SUITES for row in results.rows(suite.name))


def half_widths(results: Results) -> list[float]:
    """How far the intervals in these figures reach to each side."""
    gaps = [line.difference for suite in SUITES for line in suite.others(results)]
    return [gap.high - gap.mean for gap in gaps if gap.n > 2]


def together(kind: str, *more: dict[str, Any]) -> dict[str, Any]:
    """The tables of this name of all parts as one; no name may be there twice."""
    found: dict[str, Any] = {}
    for table in (*(getattr(part, kind, {}) for part in PARTS), *more):
        if twice := found.keys() & table.keys():
            raise ValueError(f"{kind} of the parts: {sorted(twice)} twice")
        found |= table
    return found


METHODS: dict[str, Statistic] = {
    "SchoolEntropy": MONARCH.value({}, "entropy", ".3f"),
    "SchoolTraining": MONARCH.value({}, "training_characters", ",d"),
    "ClassicsTraining": DATA.value("baseline", "training_characters", ",d"),
    "ClassicsWorks": lambda _: str(len(json.loads((ROOT / "juliagpt_jax/books/classics.json").read_text("utf-8")))),
    "MicroLayers": MONARCH.value("baseline", "config.model.layers"),
    "MicroWidth": MONARCH.value("baseline", "config.model.width"),
    "MicroHeads": MONARCH.value("baseline", "config.model.heads"),
    "MicroContext": MONARCH.value("baseline", "config.model.context"),
    "MicroBatch": MONARCH.value("baseline", "config.train.batch_size"),
    "MicroRate": MONARCH.value("baseline", "config.train.lr"),
    "JaxVersion": MONARCH.value({}, "versions.jax"),
    "Machine": MONARCH.value({}, "machine"),
    "SmallestParams": lambda results: f"{min(every(results, 'params')):,}",
    "LargestParams": lambda results: f"{max(every(results, 'params')):,}",
    "FewestTokens": lambda results: f"{min(every(results, 'tokens')):,}",
    "MostTokens": lambda results: f"{max(every(results, 'tokens')):,}",
    "RowsInAll": lambda results: str(len(list(every(results, "commit")))),
    "RowsUnclean": lambda results: str(
        sum(not re.fullmatch("[0-9a-f]{40}", commit) for commit in every(results, "commit"))
    ),
    "IntervalLeast": lambda results: f"{min(half_widths(results)):.3f}",
    "IntervalMost": lambda results: f"{max(half_widths(results)):.3f}",
}
DIFFERENCES: dict[str, Figure] = {"differences": lambda results: figures.differences(results, COMPARED)}

# The techniques on both texts, as arms of the table of all techniques and of their own suites on the schoolroom.
BOTH_TEXTS = (
    ("monarch", MONARCH, "mixer: monarch"),
    ("monarch_heads", MONARCH, HEADS),
    ("monarch, its channel too", MONARCH, SMALL),
    *((kind, OPTIMIZERS, kind) for kind in optimizers.SECOND),
    ("stack", STACK, optimizers.BEST),
    (techniques.ODE, ODE, WIDE),
)


def twice(results: Results) -> Iterator[tuple[str, Line, Line]]:
    """Each of these: its name in the table, and its comparison there and in its own suite."""
    return ((arm, TECHNIQUES.line(results, arm), suite.line(results, other)) for arm, suite, other in BOTH_TEXTS)


CONCLUSIONS: Holds = {
    "MonarchOnBoth": (
        "the Monarch sequence mixers are ahead of attention on both texts",
        lambda results: all(
            max(here.difference.high, there.difference.high) < 0 for arm, here, there in twice(results) if "mon" in arm
        ),
    ),
    "OptimizersOnBoth": (
        "Muon, SOAP and K-FAC, and nothing else, are ahead after Holm's correction on both texts",
        lambda results: (
            {arm for arm, here, there in twice(results) if max(here.corrected, there.corrected) < 0.05}
            == set(optimizers.SECOND)
        ),
    ),
    "NoDataAnywhere": (
        "no data technique, part of the text or phase is ahead of the whole in random order",
        lambda results: (
            not set(techniques.DATA) & set(techniques.names(results, -1))
            and not any(line.difference.high < 0 for suite in (DATA, CORESET, CORPUS) for line in suite.others(results))
        ),
    ),
    "TernaryOnBoth": (
        "ternary weights are told neither from dense ones with their norms nor from the baseline, on either text",
        lambda results: (
            not any(
                suite.difference(results, "ternary", dense).tells
                for suite, names in ((TERNARY, ("subln", "dense")), (TECHNIQUES, ("subln", techniques.BASE)))
                for dense in names
            )
        ),
    ),
    "SignsAgree": (
        "what is on both texts has the same sign on both",
        lambda results: all(
            (here.difference.mean < 0) == (there.difference.mean < 0) for _, here, there in twice(results)
        ),
    ),
}

STATED = together("STATED")
NUMBERS = together("NUMBERS", METHODS)
TABLES = together("TABLES")
FIGURES = together("FIGURES", DIFFERENCES)
HOLDS = together("HOLDS", CONCLUSIONS)
PENDING = together("PENDING")
