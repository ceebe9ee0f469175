"""What stands in attention's place: Monarch mixers and matrices, and what they cost."""

import figures
from measures import Figure, File, Holds, Results, Statistic, Suite, Table, dig, suite_table

MONARCH = Suite(
    "monarch/results/mixers/results.jsonl",
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
SEARCH = Suite("monarch/results/search/results.jsonl", "baseline")
COST = File("monarch/results/benchmark/benchmark.jsonl")
HEADS, SMALL, NARROW = "mixer: monarch_heads", "monarch, channel of 4 blocks", "monarch, ffn_mult 1.25"
MIXERS = {"monarch": "monarch", "monarch_heads": "monarch heads"}
STATED = {"AimPerplexity": "5%"}


def ratio(results: Results, mixer: str, key: str, context: int) -> float:
    """A measure of a mixer over attention's at the same context."""
    value = lambda word: dig(COST.pick(results, {"mixer": word, "context": context})[0], key)
    return value(mixer) / value("attention")


def cost(mixer: str, key: str, context: int = 4096) -> Statistic:
    """The same, as a text."""
    return lambda results: f"{ratio(results, mixer, key, context):.2f}"


NUMBERS: dict[str, Statistic] = {
    "MonarchSteps": MONARCH.value({}, "config.train.steps", ",d"),
    "MonarchTokens": MONARCH.value({}, "tokens", ",d"),
    "MonarchSeeds": MONARCH.distinct({}, "seed"),
    "MonarchCharacters": MONARCH.value({}, "characters", ",d"),
    "MonarchStride": MONARCH.value({}, "stride"),
    "MonarchBaseParams": MONARCH.value("baseline", "params", ",d"),
    "MonarchBasePerplexity": MONARCH.mean("baseline", "perplexity", ".2f"),
    "MonarchMixerPerplexity": MONARCH.mean("mixer: monarch", "perplexity", ".2f"),
    "MonarchHeadsPerplexity": MONARCH.mean(HEADS, "perplexity", ".2f"),
    "MonarchSmallLess": MONARCH.less(SMALL, "baseline", "params"),
    "MonarchSmallPerplexityLess": MONARCH.less(SMALL, "baseline", "perplexity", ".1f"),
    "MonarchSmallGap": MONARCH.gap(SMALL),
    "MonarchSmallAgainstNarrow": MONARCH.gap(SMALL, NARROW),
    "SearchBasePerplexity": SEARCH.value("baseline", "perplexity", ".2f"),
    "SearchMonarchPerplexity": SEARCH.value("mixer: monarch", "perplexity", ".2f"),
    "SearchShortPerplexity": SEARCH.value("monarch, filter of one token", "perplexity", ".2f"),
    "SearchTwoBlocksPerplexity": SEARCH.value("monarch, channel of 2 blocks", "perplexity", ".3f"),
    "SearchTwoBlocksParams": SEARCH.value("monarch, channel of 2 blocks", "params", ",d"),
    "SearchNarrowPerplexity": SEARCH.value("monarch, ffn_mult 2", "perplexity", ".3f"),
    "SearchNarrowParams": SEARCH.value("monarch, ffn_mult 2", "params", ",d"),
    "SearchAttentionBlocks": SEARCH.value("attention, channel of 2 blocks", "perplexity", ".3f"),
    "SearchAttentionNarrow": SEARCH.value("attention, ffn_mult 2", "perplexity", ".3f"),
    # what they cost
    "CostContext": COST.value({"mixer": "attention", "context": 4096}, "context", ",d"),
    "CostMonarch": cost("monarch", "train_s_per_token"),
    "CostHeads": cost("monarch_heads", "train_s_per_token"),
    "CostMonarchDecode": cost("monarch", "decode_s_per_token"),
    "CostHeadsDecode": cost("monarch_heads", "decode_s_per_token"),
    "CostDftLeast": COST.least({"mixer": "monarch"}, "dft_over_fft", ".1f"),
    "CostDftMost": COST.most({"mixer": "monarch"}, "dft_over_fft", ".1f"),
}

TABLES: dict[str, Table] = {
    "monarch": suite_table(MONARCH, "", "parameters", "perplexity", "difference [95%]", "p", "steps"),
}

FIGURES: dict[str, Figure] = {"context": lambda results: figures.context(results, COST, ratio, MIXERS)}

HOLDS: Holds = {
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
    "CheaperFromHundreds": (
        "the mixers take no less time than attention at a context of 128, to 2%, and less from 512 on",
        lambda results: all(
            (ratio(results, mixer, "train_s_per_token", context) < 1) == (context > 128)
            or (context == 128 and ratio(results, mixer, "train_s_per_token", context) > 0.98)
            for mixer in ("monarch", "monarch_heads")
            for context in (128, 512, 1024, 2048, 4096, 8192)
        ),
    ),
}
