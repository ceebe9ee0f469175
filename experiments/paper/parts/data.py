"""What text a model reads: data techniques, parts of a corpus by score or by phase, influence held to retraining."""

import re
import statistics
from typing import Any

from measures import Difference, File, Holds, Results, Statistic, Suite, Table, bracket, suite_table

PHASES = ("trivium", "quadrivium", "philosophy")
DATA = Suite("data_techniques/results/equal_steps/results.jsonl", "baseline", "data (to random order)")
SCORES = {"el2n": "EL2N", "grad_norm": "gradient norm"}
CORESET = Suite(
    "coreset/results/small_text/results.jsonl",
    "full",
    "parts (to the whole)",
    {"full": "whole"}
    | {f"{w} 60% by {s}": f"{w} 60% by {name}" for w in ("top", "middle", "bottom") for s, name in SCORES.items()},
)
CORPUS = Suite("corpus/results/phases/results.jsonl", "all", "phases (to all three)", {p: f"{p} alone" for p in PHASES})
INFLUENCE = File("influence/results/halves/results.jsonl")
OVERLAP = "overlap of 5-grams"
RANDOM, MIDDLE, TOP = "random 60%", "middle 60% by loss", "top 60% by loss"

# What others published and what the project aimed at: no result of ours.
STATED = {
    "CurriculumSteps": "18 to 45%",  # Zhang et al. 2025, abstract; as the next
    "CurriculumEnd": "3.5%",
    "AimCurriculum": "15%",
    "AimStack": "25%",
    "DataMiddleStep": "250",
}


def shares(results: Results, arm: str, phase: str) -> list[float]:
    """What share of its draws each seed of an arm gave to a phase: a note of its row."""
    notes = [" ".join(row["notes"]) for row in DATA.pick(results, arm)]
    return [float(re.findall(rf"{phase} (\d\.\d+)", note)[0]) for note in notes]


def parts_of_60(results: Results) -> list[float]:
    """Loss of each cell with 60% of the lines, less that of the whole of its seed."""
    whole = {row["seed"]: row["loss"] for row in CORESET.pick(results, "full")}
    return [r["loss"] - whole[r["seed"]] for r in results.rows(CORESET.name) if "60%" in r["arm"]]


def read(results: Results, arm: str) -> int:
    """The characters that an arm of CORPUS has to train on."""
    return CORPUS.values(results, arm, "training_characters")[0]


def epochs(results: Results) -> list[float]:
    """How often each arm of CORPUS went through its text."""
    return [line.rows[0]["tokens"] / read(results, line.arm) for line in results.lines(CORPUS).values()]


def transfer(results: Results, trained: str, scored: str) -> Difference:
    """Loss on a phase of a model of one phase, to that of the model of all three."""
    return CORPUS.difference(results, trained, key=f"phases.{scored}.loss")


def lds(results: Results, method: str) -> dict[str, Any]:
    """The row of a method's linear datamodeling score."""
    return INFLUENCE.pick(results, {"what": "lds", "method": method})[0]


def lds_gap(results: Results, one: str, other: str) -> dict[str, Any]:
    """The row of a difference of two."""
    return INFLUENCE.pick(results, {"what": "difference", "one": one, "other": other})[0]


NUMBERS: dict[str, Statistic] = {
    # data techniques
    "DataSteps": DATA.value({}, "config.train.steps"),
    "DataTokens": DATA.value({}, "tokens", ",d"),
    "DataSeeds": DATA.distinct({}, "seed"),
    "DataComparisons": DATA.comparisons(),
    "DataWeights": DATA.value("phase weights", "config.data.phase_weights"),
    "DataLeastP": DATA.least_p(),
    "DataBigramGap": DATA.gap("bigram penalty"),
    "DataStackGap": DATA.gap("stack"),
    "DataEasyGap": DATA.gap("easy first"),
    "DataEasyMiddle": lambda results: f"{-DATA.difference(results, 'easy first', key='curve.250').mean:.3f}",
    "DataDoremiGap": DATA.gap("DoReMi"),
    "DataDoremiShare": lambda results: "{:.2f} to {:.2f}".format(
        *(f(shares(results, "DoReMi", "trivium")) for f in (min, max))
    ),
    "DataTriviumShare": lambda results: (
        f"{DATA.pick(results, {})[0]['phases']['trivium']['characters'] / DATA.pick(results, {})[0]['characters']:.0%}"
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
    # phases
    "CorpusSteps": CORPUS.value({}, "config.train.steps", ",d"),
    "CorpusTokens": CORPUS.value({}, "tokens", ",d"),
    "CorpusSeeds": CORPUS.distinct({}, "seed"),
    **{f"Corpus{phase.title()}Gap": CORPUS.gap(phase) for phase in PHASES},
    "CorpusMostP": lambda results: f"{max(line.corrected for line in CORPUS.others(results)):.2g}",
    "CorpusPhilosophyShare": lambda results: f"{read(results, 'philosophy') / read(results, 'all'):.0%}",
    "CorpusEpochsLeast": lambda results: f"{min(epochs(results)):.2f}",
    "CorpusEpochsMost": lambda results: f"{max(epochs(results)):.2f}",
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
}


def corpus_table(results: Results) -> list[list[str]]:
    """Trained on, by scored on: the loss of the model of all phases, and the differences of the others to it."""
    keys = [*(f"phases.{phase}.loss" for phase in PHASES), "loss"]
    rows = [["trained on", *PHASES, "all of it"], ["all"]]
    rows[-1] += [CORPUS.spread("all", key)(results) for key in keys]
    return rows + [[phase, *(CORPUS.gap(phase, key=key)(results) for key in keys)] for phase in PHASES]


def influence_table(results: Results) -> list[list[str]]:
    """Methods by their score."""
    names = {"ekfac": "EK-FAC", "trak": "TRAK", "tracin": "TracIn", "cosine": "TracIn, cosine"}
    named = lambda method: re.sub(r"^\w+", lambda word: names.get(word[0], word[0]), method)
    rows = sorted(INFLUENCE.pick(results, {"what": "lds"}), key=lambda row: -row["lds"])
    body = [[named(r["method"]), bracket(r, "lds"), f"{r['mean_loss']:+.2f}"] for r in rows]
    return [["scores", "LDS [95%]", "of the mean loss"], *body]


TABLES: dict[str, Table] = {
    "data": suite_table(DATA, "", "perplexity", "difference [95%]", "p", "trivium", "quadrivium", "philosophy"),
    "coreset": suite_table(CORESET, "", "seeds", "epochs", "loss", "difference [95%]", "p"),
    "corpus": corpus_table,
    "influence": influence_table,
}

HOLDS: Holds = {
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
    "OwnPhaseBest": (
        "each phase is learned better from itself than from all three, by an interval that leaves out zero",
        lambda results: all(transfer(results, phase, phase).high < 0 for phase in PHASES),
    ),
    "OthersWorse": (
        "each phase is learned worse from either of the others than from all three, by intervals that leave out zero",
        lambda results: all(transfer(results, a, b).low > 0 for a in PHASES for b in PHASES if a != b),
    ),
    "WholeBest": (
        "all three phases are better on all of the validation text than any alone, after Holm as well",
        lambda results: all(line.difference.low > 0 and line.corrected < 0.05 for line in CORPUS.others(results)),
    ),
    "PhilosophyGainsLeast": (
        "philosophy gains the least from being alone, and the quadrivium carries over least",
        lambda results: (
            all(transfer(results, "philosophy", "philosophy").mean > transfer(results, p, p).mean for p in PHASES[:2])
            and all(
                transfer(results, "quadrivium", scored).mean > transfer(results, other, scored).mean
                for scored, other in (("trivium", "philosophy"), ("philosophy", "trivium"))
            )
        ),
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
}
