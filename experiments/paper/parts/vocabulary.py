"""What a token is: characters beside byte-level BPE, at equal training FLOPs, in bits per character."""

import statistics

from measures import Holds, Results, Statistic, Suite, Table, suite_table

VOCABULARY = Suite(
    "vocabulary/results/characters_or_bpe/results.jsonl",
    "characters",
    labels={"bpe 1024": "BPE, 1,024", "bpe 8192": "BPE, 8,192", "bpe 1024, narrow": "BPE, 1,024, narrower"},
)
SMALL, LARGE, NARROW = "bpe 1024", "bpe 8192", "bpe 1024, narrow"


def read(results: Results, arm: str) -> float:
    """Characters of training text that an arm read: its tokens, as long as those of the validation text."""
    row = VOCABULARY.pick(results, arm)[0]
    return row["tokens"] * row["characters"] / row.get("scored_tokens", row["characters"])


def seconds(results: Results, arm: str) -> float:
    """Seconds of an arm's training steps, the mean over the seeds."""
    return statistics.fmean(row["step_s"] * row["curve"][-1][0] for row in VOCABULARY.pick(results, arm))


NUMBERS: dict[str, Statistic] = {
    "VocabularyFlops": lambda results: f"{statistics.fmean(VOCABULARY.values(results, {}, 'flops')) / 1e12:.1f}",
    "VocabularySeeds": VOCABULARY.distinct({}, "seed"),
    "VocabularyCharacters": VOCABULARY.value({}, "characters", ",d"),
    "VocabularyContext": VOCABULARY.value({}, "context"),
    "VocabularySmallGap": VOCABULARY.gap(SMALL, key="bpc"),
    "VocabularyLargeGap": VOCABULARY.gap(LARGE, key="bpc"),
    "VocabularyNarrowGap": VOCABULARY.gap(NARROW, key="bpc"),
    "VocabularyMostP": lambda results: f"{max(line.corrected for line in VOCABULARY.others(results)):.2g}",
    "VocabularyLargeSmall": VOCABULARY.gap(LARGE, SMALL, "bpc"),
    "VocabularyNarrowSmall": VOCABULARY.gap(NARROW, SMALL, "bpc"),
    "VocabularyNarrowLess": VOCABULARY.less(NARROW, "characters", "params"),
    "VocabularyLargeParams": VOCABULARY.times(LARGE, "characters", "params"),
    "VocabularyReadLeast": lambda results: f"{read(results, LARGE) / read(results, 'characters'):.1f}",
    "VocabularyReadMost": lambda results: f"{read(results, NARROW) / read(results, 'characters'):.1f}",
    "VocabularyTime": lambda results: f"{seconds(results, LARGE) / seconds(results, 'characters'):.1f}",
    "VocabularyText": VOCABULARY.value("characters", "training_characters", ",d"),
}

TABLES: dict[str, Table] = {
    "vocabulary": suite_table(
        VOCABULARY, "", "parameters", "tokens", "characters a token", "bits per character", "difference [95%]", "p"
    ),
}

HOLDS: Holds = {
    "BpeAhead": (
        "every BPE is ahead of characters in bits per character, after Holm as well",
        lambda results: all(x.difference.high < 0 and x.corrected < 0.05 for x in VOCABULARY.others(results)),
    ),
    "NarrowAhead": (
        "the narrower model is not behind the one with the same BPE and all of the width",
        lambda results: VOCABULARY.difference(results, NARROW, SMALL, "bpc").mean < 0,
    ),
    "LargerAhead": (
        "the larger vocabulary is ahead of the smaller one",
        lambda results: VOCABULARY.difference(results, LARGE, SMALL, "bpc").high < 0,
    ),
    "BpeReadsMore": (
        "every BPE reads more text for the same FLOPs, the narrower model the most and the larger vocabulary the least",
        lambda results: (
            read(results, "characters") < read(results, LARGE) < read(results, SMALL) < read(results, NARROW)
        ),
    ),
}
