"""Measures of how varied a generated text is. Words are what white space divides."""

from collections import Counter


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def distinct(words: list[str], n: int) -> float:
    """distinct-n: different n-grams of words / all of them (Li et al. 2016, arXiv 1510.03055, section 5.1); nan without
    any."""
    grams = _grams(words, n)
    return len(set(grams)) / len(grams) if grams else float("nan")


def repetition(words: list[str], n: int = 4) -> float:
    """Share of the n-grams of words that appear more than once; nan without any."""
    counts = Counter(_grams(words, n))
    total = sum(counts.values())
    return sum(c for c in counts.values() if c > 1) / total if total else float("nan")


def diversity(text: str) -> dict[str, float]:
    """distinct-1, -2, -3 and the repetition rate of 4-grams."""
    words = text.split()
    return {f"distinct_{n}": distinct(words, n) for n in (1, 2, 3)} | {"repetition_4": repetition(words)}
