"""The paper from the committed results: numbers.tex, tables and figures, and the PDF.

python experiments/paper/build.py            # generated/
python experiments/paper/build.py --pdf      # generated/ and paper.pdf, by pdflatex and bibtex
"""

import argparse
import functools
import json
import re
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]
import figures  # noqa: E402
from measures import File, Results, Statistic, Suite, dig, suite_table  # noqa: E402

from juliagpt_jax.errors import CommandError, UserError  # noqa: E402
from juliagpt_jax.files import write_text  # noqa: E402
from juliagpt_jax.study import tables  # noqa: E402

# ---- the files of results -------------------------------------------------------------------------------------------

SCORES = {"el2n": "EL2N", "grad_norm": "gradient norm"}
DATA = Suite("data_techniques/results.jsonl", "baseline", "data techniques, to random order")
CORESET = Suite(
    "coreset/classics/results.jsonl",
    "full",
    "parts of a small corpus, to the whole",
    {"full": "whole"}
    | {f"{w} 60% by {s}": f"{w} 60% by {name}" for w in ("top", "middle", "bottom") for s, name in SCORES.items()},
)
MONARCH = Suite(
    "monarch/results.jsonl",
    "baseline",
    "Monarch mixers, to attention",
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
    "depth as an ODE, to two blocks",
    {
        "ode, 4 steps": "ODE",
        "ode, 4 steps, width 136": "ODE, wider block",
        "ode, 4 steps, generated weights": "ODE, generated weights",
        "4 x the same block": "one block, four times",
    },
)
BEND = Suite("neural_ode/bend/results.jsonl", "4 steps", "how an ODE is trained, to four Euler steps")
TUNING = Suite("optimizers/tuning/results.jsonl", "adamw, lr 0.004")
COMPARED = [DATA, CORESET, MONARCH, ODE, BEND]  # in the figure of all differences

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
MIB = 2.0**-20

# ---- what a study with a script of its own needs ----------------------------------------------------------------------


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
    return [row["params"] for suite in COMPARED for row in results.rows(suite.name)]


def tuned(results: Results, kind: str) -> list[dict[str, Any]]:
    """Rows of the tuning for one line of its table, the best first."""
    one_rate = lambda arm: "adam_lr" not in arm
    of = {"AdamW, one rate": lambda arm: arm.startswith("adamw") and one_rate(arm)}
    of |= {"AdamW, two rates": lambda arm: arm.startswith("adamw") and not one_rate(arm)}
    of |= {name: lambda arm, word=word: arm.startswith(word) for name, word in (("Muon", "muon"), ("SOAP", "soap"))}
    of |= {"K-FAC": lambda arm: arm.startswith("kfac")}
    return sorted((r for r in results.rows(TUNING.name) if of[kind](r["arm"])), key=lambda row: row["loss"])


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


# ---- numbers: one macro each ------------------------------------------------------------------------------------------

# What others published and what the project aimed at: no result of ours.
STATED = {
    "NanogptLoss": "1.88",  # nanoGPT's README, the run on a CPU
    "CurriculumSteps": "18 to 45%",  # Zhang et al. 2025, abstract
    "AimCurriculum": "15%",
    "AimStack": "25%",
    "AimTraining": "1.2",
    "SweepSeed": "2",  # neural_ode/README.md; the rows of a sweep name the model alone
    "DataMiddleStep": "250",
}

NUMBERS: dict[str, Statistic] = {
    # data and methods
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
    "SmallestParams": lambda results: f"{min(parameters(results)):,}",
    "LargestParams": lambda results: f"{max(parameters(results)):,}",
    # data techniques
    "DataSteps": DATA.value({}, "config.train.steps"),
    "DataTokens": DATA.value({}, "tokens", ",d"),
    "DataSeeds": DATA.distinct({}, "seed"),
    "DataComparisons": DATA.comparisons(),
    "DataLeastP": DATA.least_p(),
    "DataBigramGap": DATA.gap("bigram penalty"),
    "DataStackGap": DATA.gap("stack"),
    "DataEasyGap": DATA.gap("easy first"),
    "DataEasyMiddle": lambda results: f"{-DATA.difference(results, 'easy first', key='curve.250').mean:.3f}",
    "DataDoremiGap": DATA.gap("DoReMi"),
    "DataDoremiShare": lambda results: "{:.2f} to {:.2f}".format(
        *(f(shares(results, "DoReMi", "trivium")) for f in (min, max))
    ),
    "DataBaseTrivium": DATA.mean("baseline", "phases.trivium.perplexity", ".2f"),
    "DataBaseQuadrivium": DATA.mean("baseline", "phases.quadrivium.perplexity", ".2f"),
    "DataDoremiTrivium": DATA.mean("DoReMi", "phases.trivium.perplexity", ".2f"),
    "DataDoremiQuadrivium": DATA.mean("DoReMi", "phases.quadrivium.perplexity", ".2f"),
    "DataShare": lambda r: f"{DATA.pick(r, {})[0]['tokens'] / DATA.pick(r, {})[0]['training_characters']:.1%}",
    # coresets
    "CoresetLines": CORESET.value("full", "chunks"),
    "CoresetSteps": lambda results: str(CORESET.pick(results, "full")[0]["curve"][-1][0]),
    "CoresetEpochs": CORESET.mean("full", "epochs", ".1f"),
    "CoresetCellsAbove": lambda results: str(sum(gap > 0 for gap in parts_of_60(results))),
    "CoresetCells": lambda results: str(len(parts_of_60(results))),
    "CoresetRandomGap": CORESET.gap(RANDOM),
    "CoresetThirtyGap": CORESET.gap("random 30%"),
    "CoresetThirtyP": CORESET.p("random 30%"),
    "CoresetMiddleGap": CORESET.gap(MIDDLE),
    "CoresetMiddleRandom": CORESET.gap(MIDDLE, RANDOM),
    "CoresetTopRandom": CORESET.gap(TOP, RANDOM),
    # influence
    "InfluenceChunks": INFLUENCE.value({"what": "setting"}, "train_chunks", ",d"),
    "InfluenceQueries": INFLUENCE.value({"what": "setting"}, "queries"),
    "InfluenceParts": INFLUENCE.value({"what": "setting"}, "parts"),
    "InfluenceSeeds": INFLUENCE.value({"what": "setting"}, "seeds"),
    "InfluenceEkfac": lambda results: bracket(lds(results, "ekfac"), "lds", ".2f"),
    "InfluenceNgrams": lambda results: bracket(lds(results, OVERLAP), "lds", ".2f"),
    "InfluenceEkfacTracin": lambda results: bracket(lds_gap(results, "ekfac", "tracin"), "difference"),
    "InfluenceEkfacTrak": lambda results: bracket(lds_gap(results, "ekfac", "trak"), "difference"),
    "InfluenceNgramsEkfac": lambda results: bracket(lds_gap(results, OVERLAP, "ekfac"), "difference"),
    "InfluenceBoth": lambda results: bracket(lds_gap(results, f"ekfac + {OVERLAP}", OVERLAP), "difference"),
    "InfluenceAgreement": INFLUENCE.value({"what": "agreement of two seeds on the same part"}, "correlation", ".2f"),
    "InfluenceCeiling": INFLUENCE.value({"what": "agreement of two seeds on the same part"}, "ceiling", ".2f"),
    # Monarch
    "MonarchSteps": MONARCH.value({}, "config.train.steps", ",d"),
    "MonarchTokens": MONARCH.value({}, "tokens", ",d"),
    "MonarchSeeds": MONARCH.distinct({}, "seed"),
    "MonarchCharacters": MONARCH.value({}, "characters", ",d"),
    "MonarchStride": MONARCH.value({}, "stride"),
    "MonarchBaseParams": MONARCH.value("baseline", "params", ",d"),
    "MonarchBasePerplexity": MONARCH.mean("baseline", "perplexity", ".2f"),
    "MonarchHeadsPerplexity": MONARCH.mean(HEADS, "perplexity", ".2f"),
    "MonarchSmallLess": MONARCH.less(SMALL, "baseline", "params"),
    "MonarchSmallPerplexityLess": MONARCH.less(SMALL, "baseline", "perplexity", ".1f"),
    "MonarchSmallGap": MONARCH.gap(SMALL),
    "MonarchSmallAgainstNarrow": MONARCH.gap(SMALL, NARROW),
    "SeedSpread": lambda results: f"{statistics.stdev(MONARCH.values(results, 'baseline', 'loss')):.3f}",
    "SearchBasePerplexity": SEARCH.value("baseline", "perplexity", ".2f"),
    "SearchMonarchPerplexity": SEARCH.value("mixer: monarch", "perplexity", ".2f"),
    "SearchShortPerplexity": SEARCH.value("monarch, filter of one token", "perplexity", ".2f"),
    "SearchTwoBlocksPerplexity": SEARCH.value("monarch, channel of 2 blocks", "perplexity", ".3f"),
    "SearchTwoBlocksParams": SEARCH.value("monarch, channel of 2 blocks", "params", ",d"),
    "SearchNarrowPerplexity": SEARCH.value("monarch, ffn_mult 2", "perplexity", ".3f"),
    "SearchNarrowParams": SEARCH.value("monarch, ffn_mult 2", "params", ",d"),
    "SearchAttentionBlocks": SEARCH.value("attention, channel of 2 blocks", "perplexity", ".3f"),
    "SearchAttentionNarrow": SEARCH.value("attention, ffn_mult 2", "perplexity", ".3f"),
    # neural ODE
    "OdeSteps": ODE.value({}, "config.train.steps"),
    "OdeTokens": ODE.value({}, "tokens", ",d"),
    "OdeSeeds": ODE.distinct({}, "seed"),
    "OdeWideGap": ODE.gap(WIDE),
    "OdeWideP": ODE.p(WIDE),
    "OdeWideFlops": ODE.times(WIDE, "2 blocks", "flops"),
    "OdeAgainstFour": ODE.gap(ODE4, "4 blocks"),
    "OdeFourParams": ODE.times("4 blocks", ODE4, "params"),
    "OdeRepeatedGap": ODE.gap("4 x the same block"),
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
    # optimizers
    "TuneSeed": TUNING.distinct({}, "seed"),
    "TuneSteps": TUNING.value({}, "config.train.steps"),
    "TuneCells": TUNING.count({}),
    "TuneAdamOne": lambda results: f"{tuned(results, 'AdamW, one rate')[0]['loss']:.3f}",
    "TuneAdamTwo": lambda results: f"{tuned(results, 'AdamW, two rates')[0]['loss']:.3f}",
    # real text
    "ShakespeareCharacters": SHAKESPEARE.value({}, "characters", ",d"),
    "ShakespeareTokens": SHAKESPEARE.value({}, "tokens", ",d"),
    "ShakespeareParams": SHAKESPEARE.value({}, "params", ",d"),
    "ShakespeareLoss": SHAKESPEARE.spread({}, "loss"),
    "ShakespeareRuns": SHAKESPEARE.count({}),
    "ClassicsParams": CLASSICS.value({}, "params", ",d"),
    "ClassicsBpc": CLASSICS.value({}, "bpc", ".3f"),
    "ClassicsTokens": CLASSICS.value({}, "tokens", ",d"),
    # analysis
    "CostContext": COST.value({"mixer": "attention", "context": 4096}, "context", ",d"),
    "CostMonarch": cost("monarch", "train_s_per_token"),
    "CostHeads": cost("monarch_heads", "train_s_per_token"),
    "CostMonarchDecode": cost("monarch", "decode_s_per_token"),
    "CostHeadsDecode": cost("monarch_heads", "decode_s_per_token"),
    "CostDftLeast": COST.least({"mixer": "monarch"}, "dft_over_fft", ".1f"),
    "CostDftMost": COST.most({"mixer": "monarch"}, "dft_over_fft", ".1f"),
    "SobolRuns": lambda results: str(sobol(results)[1]),
    "SobolTokens": lambda results: f"{sobol(results)[2]:,}",
    "SobolExplained": lambda results: f"{sobol(results)[3]:.0%}",
}

# ---- sentences that depend on a sign or an interval: what they say, and whether the results still do --------------------

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
    "RepeatedLevel": (
        "one block four times is not told from two blocks",
        lambda results: not ODE.difference(results, "4 x the same block").tells,
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
        "AdamW ends lower with two rates than with one",
        lambda r: tuned(r, "AdamW, two rates")[0]["loss"] < tuned(r, "AdamW, one rate")[0]["loss"],
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

# ---- tables and figures -----------------------------------------------------------------------------------------------


def influence_table(results: Results) -> list[list[str]]:
    """Methods by their score."""
    names = {"ekfac": "EK-FAC", "trak": "TRAK", "tracin": "TracIn", "cosine": "TracIn, cosine"}
    named = lambda method: re.sub(r"^\w+", lambda word: names.get(word[0], word[0]), method)
    rows = sorted(INFLUENCE.pick(results, {"what": "lds"}), key=lambda row: -row["lds"])
    body = [[named(r["method"]), bracket(r, "lds"), f"{r['mean_loss']:+.2f}"] for r in rows]
    return [["scores", "LDS [95%]", "of the mean loss"], *body]


def tuning_table(results: Results) -> list[list[str]]:
    """The best setting of each optimizer."""
    rows = [["", "runs", "loss", "settings of the best"]]
    for kind in ("AdamW, one rate", "AdamW, two rates", "Muon", "SOAP", "K-FAC"):
        found = tuned(results, kind)
        rows.append([kind, str(len(found)), f"{found[0]['loss']:.3f}", found[0]["arm"].split(", ", 1)[1]])
    return rows


def sobol_table(results: Results) -> list[list[str]]:
    """Indices of each knob."""
    rows = [["knob", "range", "S1", "ST"]]
    for knob, index in sobol(results)[0]:
        span = ", ".join(map(str, knob.levels)) or f"{knob.low:g} to {knob.high:g}" + (" (log)" if knob.log else "")
        shown = lambda name, i=index: "{:.2f} [{:.2f}, {:.2f}]".format(
            *(getattr(i, name + end) + 0.0 for end in ("", "_low", "_high"))
        )
        rows.append([knob.key, span, shown("S1").replace("-0.00", "0.00"), shown("ST")])
    return rows


def speed_table(results: Results) -> list[list[str]]:
    """Ours beside the peer's."""
    rows = [["", "ours", "peer", "ratio", "rounds"]]
    for row in SPEED.pick(results, {}):
        what, size = row["name"].split("_")[:2]
        peer = row["name"].split("_vs_")[1]
        peers = {"torch_eager_llama": "PyTorch", "llamacpp_f32": "llama.cpp, float32"}
        label = f"{'training' if what == 'train' else 'generation'}, {size}, beside {peers.get(peer, peer)}"
        pair = row["pair"]
        span = "{median:.2f} [{min:.2f}, {max:.2f}]".format(**pair["ratio_a_over_b"])
        rows.append([label, f"{pair['a']['median']:,.0f}", f"{pair['b']['median']:,.0f}", span, str(pair["rounds"])])
    return rows


TABLES: dict[str, Callable[[Results], list[list[str]]]] = {
    "data": suite_table(DATA, "", "perplexity", "difference [95%]", "p", "trivium", "quadrivium", "philosophy"),
    "coreset": suite_table(CORESET, "", "seeds", "epochs", "loss", "difference [95%]", "p"),
    "influence": influence_table,
    "monarch": suite_table(MONARCH, "", "parameters", "perplexity", "difference [95%]", "p", "steps"),
    "ode": suite_table(ODE, "", "parameters", "FLOPs", "bits per character", "difference [95%]", "p"),
    "tuning": tuning_table,
    "sobol": sobol_table,
    "speed": speed_table,
}

FIGURES: dict[str, Callable[[Results], Any]] = {
    "differences": lambda results: figures.differences(results, COMPARED),
    "solves": lambda results: figures.solves(results, SWEEP),
    "context": lambda results: figures.context(
        results, COST, ratio, {"monarch": "monarch", "monarch_heads": "monarch heads"}
    ),
}

# ---- writing ----------------------------------------------------------------------------------------------------------


def tex(text: str) -> str:
    """A plain text as LaTeX: its signs, and a minus before a number."""
    text = re.sub(r"([&%_#$])", r"\\\1", text).replace("±", r"$\pm$")
    return minus(text)


def minus(text: str) -> str:
    """A hyphen before a number as a minus."""
    return re.sub(r"(?<![\w.}])-(?=\d)", "$-$", text)


def numbers(results: Results) -> dict[str, str]:
    """Each macro and its LaTeX.

    Raises:
        UserError: a file, a row or a measure is missing; or the results no longer say what a sentence of the text says.
    """
    for name, (sentence, holds) in HOLDS.items():
        if not holds(results):
            raise UserError(f"the paper says that {sentence}, and the results no longer do: see \\Holds{name} in paper.tex")
    texts = STATED | {name: statistic(results) for name, statistic in NUMBERS.items()}
    return {name: tex(text) for name, text in texts.items()} | {f"Holds{name}": "" for name in HOLDS}


def build(experiments: Path, out: Path) -> None:
    """Write numbers.tex, the tables and the figures into a folder."""
    results = Results(experiments)
    macros = [rf"\newcommand{{\{name}}}{{{text}}}" for name, text in numbers(results).items()]
    made = {"numbers": "% Made by build.py from the results; not to be edited.\n" + "\n".join(macros) + "\n"}
    made |= {f"table_{name}": minus(tables.latex(table(results))) for name, table in TABLES.items()}
    out.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        write_text(out / f"{name}.tex", text)
    for name, draw in FIGURES.items():
        # without dates in it, so that the same results make the same file
        draw(results).savefig(out / f"{name}.pdf", metadata={"CreationDate": None})
    figures.close()


def pdf(source: Path, generated: Path, out: Path) -> str:
    """Make the PDF at `out` from paper.tex and references.bib of a folder and what `build` wrote. Returns LaTeX's log.

    Raises:
        UserError: there is no TeX, or it fails.
    """
    if not all(map(shutil.which, ("pdflatex", "bibtex"))):
        raise UserError("--pdf needs pdflatex and bibtex: apt install texlive-latex-extra lmodern")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("paper.tex", "references.bib"):
            shutil.copy(source / name, folder)
        shutil.copytree(generated, Path(folder) / "generated")
        latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
        for command in (latex, ["bibtex", "paper"], latex, latex):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
            if done.returncode:
                lines = done.stdout.splitlines()
                wrong = next((i for i, line in enumerate(lines) if line.startswith("!")), -1)
                raise UserError(f"{command[0]} fails: {' '.join(lines[wrong : wrong + 3] if wrong >= 0 else lines[-3:])}")
        shutil.copy(Path(folder) / "paper.pdf", out)
        return (Path(folder) / "paper.log").read_text(encoding="utf-8", errors="replace")


def main(arguments: list[str] | None = None) -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--experiments", type=Path, default=ROOT / "experiments", help="the folder of the results")
    flags.add_argument("--out", type=Path, default=HERE / "generated", help="where numbers, tables and figures go")
    flags.add_argument("--pdf", action="store_true", help="make paper.pdf beside that folder, too")
    options = flags.parse_args(arguments)
    try:
        build(options.experiments, options.out)
        if options.pdf:
            pdf(HERE, options.out, options.out.parent / "paper.pdf")
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
