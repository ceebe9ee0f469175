"""What a trained model does with its context: how much of it counts, where its heads look, and windows beyond it."""

from typing import Any

from measures import File, Holds, Results, Statistic

ANALYSIS = File("analysis/results/tiny/analysis.json")
WINDOW = File("inference/results/window/window.jsonl")
TINY = "runs.tiny"


def sight(results: Results, characters: int) -> dict[str, Any]:
    """The loss with so many characters in sight, and what it is `more` than with the whole context."""
    contexts = ANALYSIS.values(results, {}, f"{TINY}.contexts")[0]
    return next(row for row in contexts if row["visible"] == characters)


def more(characters: int) -> Statistic:
    """The same, as a text with its standard error."""
    return lambda results: "{more:+.3f} ± {more_error:.3f}".format(**sight(results, characters))


def heads(results: Results, key: str, layers: tuple[int, ...] = (0, 1, 2)) -> list[float]:
    """A distance of each head, in characters."""
    found = ANALYSIS.values(results, {}, f"{TINY}.attention.heads")[0]
    return [head[key] for head in found if head["layer"] in layers]


def windows(results: Results, sinks: bool) -> list[dict[str, Any]]:
    """The rows of windows with sinks, or of those that roll more often."""
    rows = [row for row in WINDOW.pick(results, {}) if row["window"] != "newest"]
    return [row for row in rows if bool(row["sinks"]) == sinks]


def ends(rows: list[dict[str, Any]], key: str) -> str:
    """From the smallest to the largest: "+0.0000 to +0.0009"."""
    form = "+.4f" if key == "difference" else ".4f"
    return " to ".join(format(end(row[key] for row in rows), form) for end in (min, max))


NUMBERS: dict[str, Statistic] = {
    "LearnedParams": ANALYSIS.value({}, f"{TINY}.params", ",d"),
    "LearnedContext": ANALYSIS.value({}, f"{TINY}.context"),
    "LearnedTargets": ANALYSIS.value({}, "effort.targets", ",d"),
    "LearnedFew": lambda results: str(sight(results, 8)["visible"]),
    "LearnedFewMore": more(8),
    "LearnedSome": lambda results: str(sight(results, 16)["visible"]),
    "LearnedSomeMore": more(16),
    "LearnedMany": lambda results: str(sight(results, 32)["visible"]),
    "LearnedManyMore": more(32),
    "LearnedHeads": lambda results: str(len(heads(results, "median_distance"))),
    "LearnedMedianLeast": lambda results: str(min(heads(results, "median_distance"))),
    "LearnedMedianMost": lambda results: str(max(heads(results, "median_distance"))),
    "LearnedUniform": ANALYSIS.value({}, f"{TINY}.attention.uniform.median_distance"),
    "LearnedFirstMean": lambda results: f"{min(heads(results, 'mean_distance', (0,))):.0f}",
    "LearnedLaterMean": lambda results: f"{max(heads(results, 'mean_distance', (1, 2))):.0f}",
    "WindowTexts": WINDOW.value({}, "texts"),
    "WindowLength": WINDOW.value({}, "length", ",d"),
    "WindowSinks": lambda results: " or ".join(map(str, sorted({row["sinks"] for row in windows(results, True)}))),
    "WindowSinksGap": lambda results: ends(windows(results, True), "difference"),
    "WindowSinksError": lambda results: f"{max(row['standard_error'] for row in windows(results, True)):.4f}",
    "WindowRollGap": lambda results: ends(windows(results, False), "difference"),
    "WindowRollError": lambda results: f"{max(row['standard_error'] for row in windows(results, False)):.4f}",
}

HOLDS: Holds = {
    "ContextLittleUsed": (
        "with 32 characters in sight the loss is that of the whole context to two standard errors; with 8 it is not",
        lambda results: (
            abs(sight(results, 32)["more"]) < 2 * sight(results, 32)["more_error"]
            and sight(results, 8)["more"] > 2 * sight(results, 8)["more_error"]
        ),
    ),
    "HeadsLookNear": (
        "half of every head's attention is on the last four characters, and the first layer looks furthest in the mean",
        lambda results: (
            max(heads(results, "median_distance")) <= 4
            and min(heads(results, "mean_distance", (0,))) > max(heads(results, "mean_distance", (1, 2)))
        ),
    ),
    "SinksBuyNothing": (
        "no window with sinks is better than the newest characters alone by two standard errors",
        lambda results: all(row["difference"] > -2 * row["standard_error"] for row in windows(results, True)),
    ),
    "RollingOftenWorse": (
        "a window that rolls more often is worse, by two standard errors",
        lambda results: all(row["difference"] > 2 * row["standard_error"] for row in windows(results, False)),
    ),
}
