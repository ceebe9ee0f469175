"""Fewer bits a weight: ternary weights, and what precisions and drafts do to the speed of writing."""

import math

from measures import File, Holds, Results, Statistic, Suite, Table, suite_table

TERNARY = Suite(
    "ternary/results/bits/results.jsonl",
    "subln",
    "bits (to dense with the norms)",
    {
        "dense": "dense, without the norms",
        "subln": "dense, with the norms",
        "16-to-1.58": "ternary from half-way",
    },
)
TUNING = File("ternary/results/tuning/results.jsonl")
HALFWAY, WIDER = "16-to-1.58", "ternary, twice as wide"
WRITING = {"tiny": File("inference/results/generate/tiny.jsonl"), "base": File("inference/results/generate/base.jsonl")}
PRECISION = File("inference/results/precision/precision.jsonl")
DRAFT = File("inference/results/draft/tiny_micro.jsonl")
NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}  # of precisions, where they differ
STATED = {"AimTernary": "10%"}


def at_edge(results: Results) -> int:
    """How many arms have the highest or the lowest rate that the tuning ran."""
    rates = TUNING.values(results, {}, "config.train.lr")
    used = [line.rows[0]["config"]["train.lr"] for line in results.lines(TERNARY).values()]
    return sum(rate in (min(rates), max(rates)) for rate in used)


def faster(results: Results, precision: str) -> list[float]:
    """Characters a second over those of float32, at each size and batch that were measured."""
    found = []
    for file in WRITING.values():
        single = {row["batch"]: row["tokens_per_s"] for row in file.pick(results, {"precision": "f32"})}
        rows = [row for row in file.pick(results, {}) if row["precision"] == precision]
        found += [row["tokens_per_s"] / single[row["batch"]] for row in rows]
    return found


def costs(results: Results, precision: str) -> float:
    """By what share the perplexity of a trained model rises over that in float32."""
    value = lambda word: PRECISION.values(results, {"precision": word}, "perplexity")[0]
    return value(precision) / value("f32") - 1


def draft(guesses: int) -> Statistic:
    """Speed over that without a draft, with the range over rounds."""

    def statistic(results: Results) -> str:
        row = DRAFT.pick(results, {"guesses": guesses})[0]
        return "{:.2f} ({:.2f} to {:.2f})".format(row["speedup"], *row["speedup_range"])

    return statistic


NUMBERS: dict[str, Statistic] = {
    "TernarySteps": TERNARY.value({}, "config.train.steps", ",d"),
    "TernarySeeds": TERNARY.distinct({}, "seed"),
    "TernaryRates": lambda results: str(len(set(TUNING.values(results, {}, "config.train.lr")))),
    "TernaryTuneSeed": TUNING.distinct({}, "seed"),
    "TernaryEdge": lambda results: str(at_edge(results)),
    "TernaryArms": lambda results: str(len(results.lines(TERNARY))),
    "TernaryHalfwayGap": TERNARY.gap(HALFWAY, "ternary"),
    "TernaryGap": TERNARY.gap("ternary"),
    "TernaryMore": TERNARY.more("ternary", "subln", "perplexity"),
    "TernaryDenseGap": TERNARY.gap("ternary", "dense"),
    "TernaryDenseMore": TERNARY.more("ternary", "dense", "perplexity"),
    "TernaryWiderGap": TERNARY.gap(WIDER),
    "TernaryWiderP": TERNARY.p(WIDER),
    "TernaryWiderFlops": TERNARY.times(WIDER, "subln", "flops"),
    "TernaryWiderDenseGap": TERNARY.gap(WIDER, "dense"),
    # writing
    "WritingTiny": WRITING["tiny"].value({"precision": "f32"}, "params", ",d"),
    "WritingBase": WRITING["base"].value({"precision": "f32"}, "params", ",d"),
    "WritingTinyNew": WRITING["tiny"].value({}, "new"),
    "WritingBaseNew": WRITING["base"].value({}, "new"),
    "WritingLeast": lambda results: f"{min(faster(results, 'int8') + faster(results, 'ternary')):.1f}",
    "WritingMost": lambda results: f"{max(faster(results, 'int8') + faster(results, 'ternary')):.1f}",
    "PrecisionTokens": PRECISION.value({}, "scored_tokens", ",d"),
    "PrecisionBytes": lambda results: f"{costs(results, 'int8'):.2%}",
    "PrecisionHalves": lambda results: f"{max(costs(results, 'bf16'), costs(results, 'f16')):.3%}",
    "DraftFew": DRAFT.value({"guesses": 2}, "guesses"),
    "DraftSome": DRAFT.value({"guesses": 4}, "guesses"),
    "DraftMany": DRAFT.value({"guesses": 8}, "guesses"),
    "DraftFewSpeed": draft(2),
    "DraftSomeSpeed": draft(4),
    "DraftManySpeed": draft(8),
    "DraftFewKept": DRAFT.value({"guesses": 2}, "accepted", ".0%"),
    "DraftManyKept": DRAFT.value({"guesses": 8}, "accepted", ".0%"),
    "DraftRounds": DRAFT.value({}, "rounds"),
}


def writing_table(results: Results) -> list[list[str]]:
    """Characters a second of each precision, by size and batch."""
    columns = [(size, row["batch"]) for size in WRITING for row in WRITING[size].pick(results, {"precision": "f32"})]
    head = ["", "MB of weights", *(f"{size}, {batch} text{'s'[: batch > 1]}" for size, batch in columns)]
    table = [head]
    for word in dict.fromkeys(row["precision"] for row in WRITING["tiny"].pick(results, {})):
        speeds = {
            (size, row["batch"]): f"{row['tokens_per_s']:,.0f}"
            for size, file in WRITING.items()
            for row in file.pick(results, {})
            if row["precision"] == word
        }
        stored = WRITING["tiny"].pick(results, {"precision": word})[0]["weight_bytes"] / 1e6
        table.append([NAMES.get(word, word), f"{stored:.2f}", *(speeds.get(column, "") for column in columns)])
    return table


TABLES: dict[str, Table] = {
    "ternary": suite_table(TERNARY, "", "parameters", "FLOPs", "perplexity", "difference [95%]", "p"),
    "writing": writing_table,
}

HOLDS: Holds = {
    "HalfwayLost": (
        "turning ternary half-way ends above ternary from the start, by an interval that leaves out zero",
        lambda results: TERNARY.difference(results, HALFWAY, "ternary").low > 0,
    ),
    "TernaryLevel": (
        "ternary weights are told neither from dense ones with their norms nor from the dense model without them",
        lambda results: not any(TERNARY.difference(results, "ternary", dense).tells for dense in ("subln", "dense")),
    ),
    "TernaryAimOpen": (
        "ternary is less than 10% in perplexity above dense in the mean, and more at the end of the interval",
        lambda r: (
            float(TERNARY.times("ternary", "dense", "perplexity", ".4f")(r)) < 1.1
            and TERNARY.difference(r, "ternary", "dense").high > math.log(1.1)
        ),
    ),
    "WiderAhead": (
        "ternary twice as wide is ahead of the control, after Holm as well, and not told from dense",
        lambda results: (
            TERNARY.difference(results, WIDER).high < 0
            and TERNARY.line(results, WIDER).corrected < 0.05
            and not TERNARY.difference(results, WIDER, "dense").tells
        ),
    ),
    "BytesFaster": (
        "int8 and ternary write faster than float32 at every size and batch, bfloat16 and float16 slower",
        lambda results: (
            min(faster(results, "int8") + faster(results, "ternary")) > 1
            and max(faster(results, "bf16") + faster(results, "f16")) < 1
        ),
    ),
    "DraftDoesNotPay": (
        "with no number of guesses is a draft faster in every round, and in the median of no two of three",
        lambda results: (
            all(row["speedup_range"][0] < 1 for row in DRAFT.pick(results, {}) if row["guesses"])
            and sum(row["speedup"] > 1 for row in DRAFT.pick(results, {})) < 2
        ),
    ),
}
