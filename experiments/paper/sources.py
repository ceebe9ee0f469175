"""The files of results that the paper is made of, and what is read from them in a way of their own."""

import functools
import json
import re
import runpy
from pathlib import Path
from typing import Any

from measures import File, Results, Statistic, Suite, dig

ROOT = Path(__file__).resolve().parents[2]

SCORES = {"el2n": "EL2N", "grad_norm": "gradient norm"}
DATA = Suite("data_techniques/results.jsonl", "baseline", "data (to random order)")
CORESET = Suite(
    "coreset/classics/results.jsonl",
    "full",
    "parts (to the whole)",
    {"full": "whole"}
    | {f"{w} 60% by {s}": f"{w} 60% by {name}" for w in ("top", "middle", "bottom") for s, name in SCORES.items()},
)
MONARCH = Suite(
    "monarch/results.jsonl",
    "baseline",
    "Monarch (to attention)",
    {
        "baseline": "attention",
        "monarch, channel of 4 blocks": "monarch, Monarch channel",
        "mixer: monarch_heads": "monarch heads",
        "mixer: monarch": "monarch",
        "monarch, ffn_mult 1.25": "monarch, narrow SwiGLU",
    },
)
SEARCH = Suite("monarch/search/results.jsonl", "baseline")
ODE = Suite(
    "neural_ode/results/results.jsonl",
    "2 blocks",
    "depth (to two blocks)",
    {
        "ode, 4 steps": "ODE",
        "ode, 4 steps, width 136": "ODE, wider block",
        "ode, 4 steps, generated weights": "ODE, generated weights",
        "4 x the same block": "one block, four times",
    },
)
BEND = Suite("neural_ode/bend/results.jsonl", "4 steps", "ODE (to four steps)")
KINDS = {"adamw": "AdamW", "muon": "Muon", "soap": "SOAP", "kfac": "K-FAC"}
TUNING = Suite("optimizers/tuning/results.jsonl", "adamw, lr 0.004")
OPTIMIZERS = Suite(
    "optimizers/results.jsonl", "adamw", "optimizers (to AdamW)", KINDS | {"adamw, one rate": "AdamW, one rate"}
)
SWITCHES = Suite(
    "optimizers/switches/results.jsonl",
    "baseline",
    "switches (to none)",
    {
        "qk_norm": "normalised queries, keys",
        "relu2": "squared ReLU",
        "softcap 15": "soft cap of the logits",
        "zero_init": "zero-initialised ends",
        "x0_skip": "skip from the embedding",
    },
)
STACK = Suite(
    "optimizers/stack/results.jsonl",
    "adamw",
    "stack (to AdamW)",
    {
        "adamw": "AdamW",
        "adamw + qk_norm": "AdamW, qk norm",
        "soap": "SOAP",
        "soap + qk_norm": "SOAP, qk norm",
        "soap + qk_norm + zero_init": "... and zero ends",
        "soap + qk_norm + zero_init + x0_skip": "... and skip",
    },
)
# The figure of all differences: its left half, whose effects are small, and its right half.
COMPARED = ([DATA, CORESET, SWITCHES], [MONARCH, ODE, BEND, OPTIMIZERS, STACK])

INFLUENCE = File("influence/results.jsonl")
SOBOL = File("sobol/results.jsonl")
COST = File("monarch/benchmark.jsonl")
ADJOINT = File("neural_ode/depth/depth.jsonl")
SWEEP = File("neural_ode/bend/sweep/sweep.jsonl")
TOLERANCES = File("neural_ode/bend/tolerances/sweep.jsonl")
SHAKESPEARE = File("real_text/shakespeare/results.jsonl")
CLASSICS = File("real_text/classics/results.jsonl")
SPEED = File("speed/pairs.jsonl")

HEADS, SMALL, NARROW = "mixer: monarch_heads", "monarch, channel of 4 blocks", "monarch, ffn_mult 1.25"
WIDE, ODE4, OVERLAP = "ode, 4 steps, width 136", "ode, 4 steps", "overlap of 5-grams"
RANDOM, MIDDLE, TOP = "random 60%", "middle 60% by loss", "top 60% by loss"
SECOND = ("muon", "soap", "kfac")
BEST = "soap + qk_norm + zero_init"
MIB = 2.0**-20

# What others published and what the project aimed at: no result of ours.
STATED = {
    "NanogptLoss": "1.88",  # nanoGPT's README, the run on a CPU
    "CurriculumSteps": "18 to 45%",  # Zhang et al. 2025, abstract; as the next
    "CurriculumEnd": "3.5%",
    "AimCurriculum": "15%",
    "AimStack": "25%",
    "AimPerplexity": "5%",
    "AimOptimizer": "40%",
    "AimTraining": "1.2",
    "SweepSeed": "2",  # neural_ode/README.md; the rows of a sweep name the model alone
    "DataMiddleStep": "250",
}

# What no other part of the paper needs: numbers of one study.


def lds(results: Results, method: str) -> dict[str, Any]:
    """The row of a method's linear datamodeling score."""
    return INFLUENCE.pick(results, {"what": "lds", "method": method})[0]


def lds_gap(results: Results, one: str, other: str) -> dict[str, Any]:
    """The row of a difference of two."""
    return INFLUENCE.pick(results, {"what": "difference", "one": one, "other": other})[0]


def bracket(row: dict[str, Any], key: str, form: str = "+.3f") -> str:
    """A number of a row with the interval beside it."""
    return f"{row[key]:{form}} [{row['low']:{form}}, {row['high']:{form}}]"


def shares(results: Results, arm: str, phase: str) -> list[float]:
    """What share of its draws each seed of an arm gave to a phase: a note of its row."""
    notes = [" ".join(row["notes"]) for row in DATA.pick(results, arm)]
    return [float(re.findall(rf"{phase} (\d\.\d+)", note)[0]) for note in notes]


def parts_of_60(results: Results) -> list[float]:
    """Loss of each cell with 60% of the lines, less that of the whole of its seed."""
    whole = {row["seed"]: row["loss"] for row in CORESET.pick(results, "full")}
    return [r["loss"] - whole[r["seed"]] for r in results.rows(CORESET.name) if "60%" in r["arm"]]


def ratio(results: Results, mixer: str, key: str, context: int) -> float:
    """A measure of a mixer over attention's at the same context."""
    value = lambda word: dig(COST.pick(results, {"mixer": word, "context": context})[0], key)
    return value(mixer) / value("attention")


def cost(mixer: str, key: str, context: int = 4096) -> Statistic:
    """The same, as a text."""
    return lambda results: f"{ratio(results, mixer, key, context):.2f}"


def parameters(results: Results) -> list[int]:
    """Of every model in the figure of all differences."""
    return [row["params"] for suite in (*COMPARED[0], *COMPARED[1]) for row in results.rows(suite.name)]


def commits(results: Results) -> list[str]:
    """Where the code of every run in that figure stood: a commit, "...+changes", or that there was no repository."""
    return [row["commit"] for suite in (*COMPARED[0], *COMPARED[1]) for row in results.rows(suite.name)]


def half_widths(results: Results) -> list[float]:
    """How far the intervals in that figure reach to each side."""
    gaps = [line.difference for suite in (*COMPARED[0], *COMPARED[1]) for line in suite.others(results)]
    return [gap.high - gap.mean for gap in gaps if gap.n > 2]


def tuned(results: Results, two_rates: bool) -> float:
    """The least loss of AdamW in the tuning, with a rate of its own for what is no matrix or without."""
    rows = [row for row in results.rows(TUNING.name) if row["arm"].startswith("adamw")]
    return min(row["loss"] for row in rows if ("adam_lr" in row["arm"]) == two_rates)


@functools.cache
def _sobol(text: str) -> tuple[list[Any], int, int, float]:
    """(indices of each knob, runs, tokens of a run, share of the variance of unseen runs that is explained), from the
    rows as one text: it takes seconds, and the same rows are asked for many times."""
    import numpy as np

    from juliagpt_jax.study.sobol import GaussianProcess, surrogate_indices

    study = runpy.run_path(str(ROOT / "experiments" / "sobol" / "run.py"))
    rows = json.loads(text)[study["REPEATS"] :]
    x, y = np.array([row["u"] for row in rows]), np.array([row["bpc"] for row in rows])
    indices, _ = surrogate_indices(study["KNOBS"], x, y, 0)
    folds, errors = np.arange(len(y)) % 8, []
    for fold in range(8):
        process = GaussianProcess(x[folds != fold], y[folds != fold])
        errors += list(process.draws(x[folds == fold], 0, 0)[0] - y[folds == fold])
    explained = 1 - float(np.square(errors).sum() / np.square(y - y.mean()).sum())
    knobs = [(knob, index) for knob, index in zip(study["KNOBS"], indices, strict=True)]
    return knobs, len(rows), study["TOKENS"], explained


def sobol(results: Results) -> tuple[list[Any], int, int, float]:
    """See `_sobol`."""
    return _sobol(json.dumps(results.rows(SOBOL.name)))
