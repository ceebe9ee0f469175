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
from measures import Figure, Results, Statistic
from parts import baseline, bits, data, depth, learned, mixers, optimizers, techniques
from parts.bits import TERNARY
from parts.data import CORESET, CORPUS, DATA
from parts.depth import BEND, ODE, SHAPE, WINDOWS
from parts.mixers import MONARCH
from parts.optimizers import OPTIMIZERS, STACK, SWITCHES
from parts.techniques import TECHNIQUES

ROOT = Path(__file__).resolve().parents[2]
PARTS = (techniques, data, mixers, depth, bits, optimizers, baseline, learned)

# The figure of all differences: its left half, whose effects are small, and its right half.
COMPARED = ([DATA, CORESET, CORPUS, WINDOWS, SWITCHES], [SHAPE, TERNARY, MONARCH, ODE, BEND, OPTIMIZERS, STACK])
SUITES = (TECHNIQUES, *COMPARED[0], *COMPARED[1])  # of this figure and that of the techniques


def every(results: Results, key: str) -> Iterator[Any]:
    """A field of every row behind these two figures."""
    return (row[key] for suite in SUITES for row in results.rows(suite.name))


def half_widths(results: Results) -> list[float]:
    """How far the intervals in these figures reach to each side."""
    gaps = [line.difference for suite in SUITES for line in suite.others(results)]
    return [gap.high - gap.mean for gap in gaps if gap.n > 2]


def together(kind: str, *first: dict[str, Any]) -> dict[str, Any]:
    """The tables of this name of all parts as one; no name may be there twice."""
    found: dict[str, Any] = {}
    for table in (*first, *(getattr(part, kind, {}) for part in PARTS)):
        if twice := found.keys() & table.keys():
            raise ValueError(f"{kind} of the parts: {sorted(twice)} twice")
        found |= table
    return found


METHODS: dict[str, Statistic] = {
    "SchoolEntropy": MONARCH.value({}, "entropy", ".3f"),
    "SchoolTraining": MONARCH.value({}, "training_characters", ",d"),
    "ClassicsTraining": DATA.value("baseline", "training_characters", ",d"),
    "ClassicsWorks": lambda _: str(len(json.loads((ROOT / "juliagpt_jax/data/classics.json").read_text("utf-8")))),
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

STATED = together("STATED")
NUMBERS = together("NUMBERS", METHODS)
TABLES = together("TABLES")
FIGURES = together("FIGURES", DIFFERENCES)
HOLDS = together("HOLDS")
