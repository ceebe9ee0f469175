"""Sentences of the paper that depend on a sign or an interval: what they say, and whether the results still do.

Each is a macro, \\Holds and its name, which prints nothing and stands behind the sentence; build.py refuses to make a
paper that says what the results do not.
"""

import statistics
from collections.abc import Callable

from measures import Results, dig
from sources import (
    ADJOINT,
    BEND,
    BEST,
    CORESET,
    DATA,
    INFLUENCE,
    MIDDLE,
    MONARCH,
    NARROW,
    ODE,
    ODE4,
    OPTIMIZERS,
    OVERLAP,
    RANDOM,
    SEARCH,
    SECOND,
    SHAKESPEARE,
    SMALL,
    SPEED,
    STACK,
    STATED,
    SWEEP,
    SWITCHES,
    TOLERANCES,
    TOP,
    WIDE,
    lds,
    lds_gap,
    parts_of_60,
    ratio,
    sobol,
    tuned,
)


def climb(results: Results, model: str, steps: int = 0) -> float:
    """How far apart the losses of one model are over the numbers of Euler steps; or the loss at one of them."""
    losses = {row["steps"]: row["loss"] for row in SWEEP.pick(results, {"model": model}) if "steps" in row}
    return losses[steps] if steps else max(losses.values()) - min(losses.values())


def tolerance(results: Results, rtol: float) -> float:
    """The loss on the schedule for a tolerance."""
    return TOLERANCES.values(results, {"rtol": rtol}, "loss")[0]


HOLDS: dict[str, tuple[str, Callable[[Results], bool]]] = {
    "NoTechniqueHelps": (
        "no data technique is better than the baseline by an interval that leaves out zero",
        lambda results: not any(line.difference.high < 0 for line in DATA.others(results)),
    ),
    "NothingAfterHolm": (
        "no data technique is told from the baseline after Holm's correction",
        lambda results: all(line.corrected > 0.05 for line in DATA.others(results)),
    ),
    "NoTechniqueSavesSteps": (
        "no data technique reaches the baseline's loss in 15% fewer steps",
        lambda results: all(
            statistics.median(line.steps) > 0.85 * line.rows[0]["curve"][-1][0] for line in DATA.others(results)
        ),
    ),
    "TwoAreWorse": (
        "the bigram penalty and the stack end above the baseline",
        lambda results: all(DATA.difference(results, arm).low > 0 for arm in ("bigram penalty", "stack")),
    ),
    "EasyFirst": (
        "easy first is ahead at step 250 and behind at the end",
        lambda r: DATA.difference(r, "easy first", key="curve.250").high < 0 < DATA.difference(r, "easy first").mean,
    ),
    "DoremiTrades": (
        "DoReMi gains on the trivium and loses on the quadrivium",
        lambda results: (
            DATA.difference(results, "DoReMi", key="phases.trivium.loss").high < 0
            and DATA.difference(results, "DoReMi", key="phases.quadrivium.loss").mean > 0
            and not DATA.difference(results, "DoReMi").tells
        ),
    ),
    "PartsAreWorse": (
        "every part of 60% ends above the whole of its seed",
        lambda results: all(gap > 0 for gap in parts_of_60(results)),
    ),
    "NoScoreBeatsRandom": (
        "no part of 60% by a score is below a random 60% on all of its seeds",
        lambda results: (
            not any(
                CORESET.on_every_seed(results, line.arm, RANDOM, -1)
                for line in CORESET.others(results)
                if "60% by" in line.arm
            )
        ),
    ),
    "MiddleNotTold": (
        "the middle 60% by loss is not told from a random 60%",
        lambda results: not CORESET.difference(results, MIDDLE, RANDOM).tells,
    ),
    "TopWorse": (
        "the top 60% by loss is worse than a random 60% on every seed",
        lambda results: CORESET.on_every_seed(results, TOP, RANDOM, 1),
    ),
    "NgramsLevel": (
        "five-grams are level with EK-FAC, and adding EK-FAC to them gains nothing that is seen",
        lambda results: (
            lds_gap(results, OVERLAP, "ekfac")["difference"] > 0 > lds_gap(results, OVERLAP, "ekfac")["low"]
            and lds_gap(results, f"ekfac + {OVERLAP}", OVERLAP)["low"] < 0
        ),
    ),
    "EkfacAhead": (
        "EK-FAC is ahead of TracIn and TRAK",
        lambda results: all(lds_gap(results, "ekfac", other)["low"] > 0 for other in ("tracin", "trak")),
    ),
    "OwnScoresForetellNothing": (
        "a passage's own loss and gradient norm foretell nothing",
        lambda results: all(lds(results, m)["low"] < 0 < lds(results, m)["high"] for m in ("loss", "gradient norm")),
    ),
    "MeanLossForetoldByNone": (
        "no method foretells the mean loss of all queries (a rank correlation over 24 parts tells beyond 0.41)",
        lambda results: max(abs(r["mean_loss"]) for r in INFLUENCE.pick(results, {"what": "lds"})) < 0.41,
    ),
    "AimPassed": (
        "monarch has a fifth fewer parameters at no more than 5% higher perplexity",
        lambda r: (
            float(MONARCH.times(SMALL, "baseline", "params", ".4f")(r)) < 0.8
            and float(MONARCH.times(SMALL, "baseline", "perplexity", ".4f")(r)) < 1.05
        ),
    ),
    "NarrowWins": (
        "a narrow SwiGLU is ahead of Monarch channels of as many parameters, on every seed; and in the search, twice",
        lambda r: (
            MONARCH.on_every_seed(r, SMALL, NARROW, 1)
            and SEARCH.difference(r, "monarch, channel of 2 blocks", "monarch, ffn_mult 2").mean > 0
            and SEARCH.difference(r, "attention, channel of 2 blocks", "attention, ffn_mult 2").mean > 0
        ),
    ),
    "ShortConvolution": (
        "gates and short convolution are most of the mixer's gain",
        lambda r: (
            SEARCH.difference(r, "monarch, filter of one token").mean
            < 0.5 * SEARCH.difference(r, "mixer: monarch").mean
            < 0
        ),
    ),
    "MonarchP": (
        "no p value of the Monarch suite is below .05 after Holm",
        lambda results: all(line.corrected > 0.05 for line in MONARCH.others(results)),
    ),
    "MonarchAhead": (
        "every Monarch arm is ahead of attention on every seed",
        lambda results: all(MONARCH.on_every_seed(results, x.arm, "baseline", -1) for x in MONARCH.others(results)),
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
    "TwoRatesBetter": (
        "AdamW ends lower with two rates than with one, in the tuning",
        lambda results: tuned(results, True) < tuned(results, False),
    ),
    "OneRateNotTold": (
        "on three seeds AdamW with one rate is not told from AdamW with two",
        lambda results: not OPTIMIZERS.difference(results, "adamw, one rate").tells,
    ),
    "OptimizersTold": (
        "Muon, SOAP and K-FAC end below AdamW, after Holm as well",
        lambda results: all(
            OPTIMIZERS.difference(results, kind).high < 0 and OPTIMIZERS.line(results, kind).corrected < 0.05
            for kind in SECOND
        ),
    ),
    "OptimizerAimMissed": (
        "no optimizer takes 40% fewer steps than AdamW with two rates; K-FAC does than AdamW with one",
        lambda results: (
            min(OPTIMIZERS.steps_to(results, kind) for kind in SECOND) > 0.6 * 500
            and OPTIMIZERS.steps_to(results, "kfac", "adamw, one rate") <= 0.6 * 500
        ),
    ),
    "NoSecondsGained": (
        "no optimizer gains a tenth of AdamW's seconds",
        lambda results: all(
            statistics.median(OPTIMIZERS.line(results, kind).seconds)
            > 0.9 * statistics.median(OPTIMIZERS.line(results, "adamw").seconds)
            for kind in SECOND
        ),
    ),
    "OneSwitch": (
        "normalised queries and keys are the one switch with an interval below zero, and nothing is told after Holm",
        lambda results: (
            [line.arm for line in SWITCHES.others(results) if line.difference.tells] == ["qk_norm"]
            and SWITCHES.difference(results, "qk_norm").high < 0
            and all(line.corrected > 0.05 for line in SWITCHES.others(results))
        ),
    ),
    "ReluBehind": (
        "squared ReLU is behind on every seed",
        lambda results: SWITCHES.on_every_seed(results, "relu2", "baseline", 1),
    ),
    "BestStack": (
        "SOAP with normalised queries and keys and zero-initialised ends has the lowest mean of the stack",
        lambda results: min(STACK.others(results), key=lambda line: line.difference.mean).arm == BEST,
    ),
    "BelowNanogpt": (
        "the loss on tiny Shakespeare is below the recipe's",
        lambda results: max(SHAKESPEARE.values(results, {}, "loss")) < float(STATED["NanogptLoss"]),
    ),
    "CheaperFromHundreds": (
        "the mixers take no less time than attention at a context of 128, to 2%, and less from 512 on",
        lambda results: all(
            (ratio(results, mixer, "train_s_per_token", context) < 1) == (context > 128)
            or (context == 128 and ratio(results, mixer, "train_s_per_token", context) > 0.98)
            for mixer in ("monarch", "monarch_heads")
            for context in (128, 512, 1024, 2048, 4096, 8192)
        ),
    ),
    "PhilosophyDoesNotMatter": (
        "the share of philosophy explains less than 1% of the variance",
        lambda results: next(i.ST_high for _, i in sobol(results)[0] if i.key == "share of philosophy") < 0.01,
    ),
    "FourKnobs": (
        "four knobs matter about alike (total indices of 0.2 to 0.5) and interact (above the first-order ones)",
        lambda results: all(0.2 < i.ST < 0.5 and i.S1 < i.ST - 0.05 for _, i in sobol(results)[0][:4]),
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
    "AimsMissed": (
        "generation is below ten times transformers, and training of base below 1.2 times PyTorch",
        lambda results: all(
            SPEED.values(results, {"name": name}, "pair.ratio_a_over_b.median")[0] < aim
            for name, aim in (
                ("gen_tiny_b1_vs_transformers", 10),
                ("train_base_vs_torch_eager_llama", float(STATED["AimTraining"])),
            )
        ),
    ),
    "FasterThanTorch": (
        "training is faster than PyTorch, generation than transformers, and level with llama.cpp",
        lambda results: (
            min(SPEED.values(results, {}, "pair.ratio_a_over_b.median")) > 0.95
            and all(
                dig(row, "pair.ratio_a_over_b.min") > 1
                for row in SPEED.pick(results, {})
                if "llamacpp" not in row["name"]
            )
        ),
    ),
}
