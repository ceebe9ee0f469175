"""The shape of a model: blocks and width, context, and one block as the field of a differential equation."""

import statistics

import figures
from measures import Figure, File, Holds, Results, Statistic, Suite, Table, suite_table

SHAPE = Suite("shape/results/depth/results.jsonl", "2 x 96", "shape (to 2 blocks of 96)")
WINDOWS = Suite("shape/results/context/results.jsonl", "context 128", "context (to 128)")
LONG, HALF, QUARTER = "context 256", "context 64", "context 32"
ODE = Suite(
    "neural_ode/results/blocks/results.jsonl",
    "2 blocks",
    "depth (to two blocks)",
    {
        "ode, 4 steps": "ODE",
        "ode, 4 steps, width 136": "ODE, wider block",
        "ode, 4 steps, generated weights": "ODE, generated weights",
        "4 x the same block": "one block, four times",
    },
)
BEND = Suite("neural_ode/results/bend/results.jsonl", "4 steps", "ODE (to four steps)")
ADJOINT = File("neural_ode/results/adjoints/adjoints.jsonl")
SWEEP = File("neural_ode/results/sweep/bend/sweep.jsonl")
TOLERANCES = File("neural_ode/results/sweep/tolerances/sweep.jsonl")
WIDE, ODE4 = "ode, 4 steps, width 136", "ode, 4 steps"
MIB = 2.0**-20
STATED = {"SweepSeed": "2"}  # neural_ode/README.md; the rows of a sweep name the model alone


def climb(results: Results, model: str, steps: int = 0) -> float:
    """How far apart the losses of one model are over the numbers of Euler steps; or the loss at one of them."""
    losses = {row["steps"]: row["loss"] for row in SWEEP.pick(results, {"model": model}) if "steps" in row}
    return losses[steps] if steps else max(losses.values()) - min(losses.values())


def tolerance(results: Results, rtol: float) -> float:
    """The loss on the schedule for a tolerance."""
    return TOLERANCES.values(results, {"rtol": rtol}, "loss")[0]


NUMBERS: dict[str, Statistic] = {
    # blocks, width and context
    "ShapeLeast": SHAPE.least({}, "params", ",d"),
    "ShapeMost": SHAPE.most({}, "params", ",d"),
    "ShapeFlops": lambda results: f"{statistics.fmean(SHAPE.values(results, {}, 'flops')):.0e}".replace("e+", "e"),
    "ShapeTokensLeast": SHAPE.least({}, "tokens", ",d"),
    "ShapeTokensMost": SHAPE.most({}, "tokens", ",d"),
    "ShapeSeeds": SHAPE.distinct({}, "seed"),
    "ShapeEightGap": SHAPE.gap("8 x 48"),
    "ShapeFourGap": SHAPE.gap("4 x 68"),
    "ShapeOneGap": SHAPE.gap("1 x 136"),
    "ShapeOneP": SHAPE.p("1 x 136"),
    "ShapeOneFourGap": SHAPE.gap("1 x 136", "4 x 68"),
    "WindowsTokens": WINDOWS.value({}, "tokens", ",d"),
    "WindowsSeeds": WINDOWS.distinct({}, "seed"),
    "WindowsMost": WINDOWS.value(LONG, "context"),
    "WindowsLongGap": WINDOWS.gap(LONG),
    "WindowsLongP": WINDOWS.p(LONG),
    "WindowsLongFlops": WINDOWS.times(LONG, "context 128", "flops", ".2f"),
    "WindowsHalfGap": WINDOWS.gap(HALF),
    "WindowsQuarterGap": WINDOWS.gap(QUARTER),
    # one block as a field
    "OdeSteps": ODE.value({}, "config.train.steps"),
    "OdeSeeds": ODE.distinct({}, "seed"),
    "OdeWideGap": ODE.gap(WIDE),
    "OdeWideP": ODE.p(WIDE),
    "OdeWideFlops": ODE.times(WIDE, "2 blocks", "flops"),
    "OdeAgainstFour": ODE.gap(ODE4, "4 blocks"),
    "OdeFourParams": ODE.times("4 blocks", ODE4, "params"),
    "OdeRepeatedGap": ODE.gap("4 x the same block"),
    "OdeTimeGap": ODE.gap(ODE4, "4 x the same block"),
    "OdeGeneratedParams": ODE.value("ode, 4 steps, generated weights", "params", ",d"),
    "OdeGeneratedAgainst": ODE.gap("ode, 4 steps, generated weights", ODE4),
    "BendRandomGap": BEND.gap("2 to 8 steps"),
    "BendEnergyGap": BEND.gap("4 steps, energy 0.01"),
    "BendEnergyP": BEND.p("4 steps, energy 0.01"),
    "SweepCharacters": SWEEP.value({}, "characters", ",d"),
    "TolCoarse": TOLERANCES.value({"rtol": 0.1}, "loss", ".2f"),
    "TolCoarseRtol": TOLERANCES.value({"rtol": 0.1}, "rtol"),
    "TolFine": TOLERANCES.value({"rtol": 0.0001}, "loss", ".2f"),
    "TolFineRtol": TOLERANCES.value({"rtol": 0.0001}, "rtol"),
    "TolTrained": SWEEP.value({"model": "2 to 8 steps, energy 0.01", "steps": 4}, "loss", ".2f"),
    "AdjointMany": ADJOINT.most({}, "evaluations", "d"),
    "AdjointFew": ADJOINT.least({}, "evaluations", "d"),
    "AdjointSix": ADJOINT.value({"adjoint": "recursive", "evaluations": 6}, "evaluations"),
    "AdjointTime": ADJOINT.value({"adjoint": "recursive", "evaluations": 6}, "step_ratio", ".2f"),
    "AdjointErrorFew": ADJOINT.value({"adjoint": "backsolve", "evaluations": 4}, "gradient_error", ".0%"),
    "AdjointErrorMany": ADJOINT.value({"adjoint": "backsolve", "evaluations": 64}, "gradient_error", ".0%"),
    **{
        f"Adjoint{kind.title()}": ADJOINT.value(
            {"adjoint": kind, "evaluations": 64}, "temporary_bytes", ",.0f", scale=MIB
        )
        for kind in ("stack", "direct", "recursive", "backsolve")
    },
}

TABLES: dict[str, Table] = {
    "shape": suite_table(SHAPE, "", "loss", "difference [95%]", "p"),
    "windows": suite_table(WINDOWS, "", "loss", "difference [95%]", "p"),
    "ode": suite_table(ODE, "", "parameters", "FLOPs", "bits per character", "difference [95%]", "p"),
}

FIGURES: dict[str, Figure] = {"solves": lambda results: figures.solves(results, SWEEP)}

HOLDS: Holds = {
    "DeepLevel": (
        "four and eight blocks are not told from two",
        lambda results: not any(SHAPE.difference(results, arm).tells for arm in ("4 x 68", "8 x 48")),
    ),
    "OneBlockBehind": (
        "one block is behind two and four, by intervals that leave out zero",
        lambda results: all(SHAPE.difference(results, "1 x 136", other).low > 0 for other in ("2 x 96", "4 x 68")),
    ),
    "LongBehind": (
        "the longest context is behind the baseline's, after Holm as well",
        lambda results: WINDOWS.difference(results, LONG).low > 0 and WINDOWS.line(results, LONG).corrected < 0.05,
    ),
    "ShortLevel": (
        "a half and a quarter of the context are not told from the whole",
        lambda results: not any(WINDOWS.difference(results, arm).tells for arm in (HALF, QUARTER)),
    ),
    "WideAhead": (
        "a wide block as an ODE is better than two blocks, after Holm as well",
        lambda results: ODE.difference(results, WIDE).high < 0 and ODE.line(results, WIDE).corrected < 0.05,
    ),
    "TimeMatters": (
        "the ODE is ahead of the same block without time, by an interval that leaves out zero",
        lambda results: ODE.difference(results, ODE4, "4 x the same block").high < 0,
    ),
    "CurvesFlatten": (
        "random numbers of steps flatten the curve over the steps of a solve, and more so with the penalty",
        lambda results: (
            climb(results, "2 to 8 steps, energy 0.01") < climb(results, "2 to 8 steps") < climb(results, "4 steps")
        ),
    ),
    "ToleranceElsewhere": (
        "with finer tolerances the loss converges, to more than that of four equal steps",
        lambda results: (
            abs(tolerance(results, 0.001) - tolerance(results, 0.0001)) < 0.01
            and tolerance(results, 0.0001) - climb(results, "2 to 8 steps, energy 0.01", 4) > 0.1
        ),
    ),
    "RepeatedLevel": (
        "one block four times is not told from two blocks",
        lambda results: not ODE.difference(results, "4 x the same block").tells,
    ),
    "FourLevel": (
        "four blocks and the ODE of four steps are not told apart",
        lambda results: not ODE.difference(results, ODE4, "4 blocks").tells,
    ),
    "GeneratedLevel": (
        "generated weights are not told from time in the norms",
        lambda results: not ODE.difference(results, "ode, 4 steps, generated weights", ODE4).tells,
    ),
    "EnergyAhead": (
        "a penalty on kinetic energy is ahead on every seed",
        lambda results: BEND.on_every_seed(results, "4 steps, energy 0.01", "4 steps", -1),
    ),
    "BacksolveFlat": (
        "the continuous adjoint needs as much memory at any depth",
        lambda results: (
            len(
                {
                    r["temporary_bytes"]
                    for r in ADJOINT.pick(results, {"adjoint": "backsolve"})
                    if "temporary_bytes" in r
                }
            )
            == 1
        ),
    ),
}
