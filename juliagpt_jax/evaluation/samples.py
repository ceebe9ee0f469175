"""Texts that a model writes behind fixed prompts: all of them, a pick by a stated rule, and how much of them is
copied."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.evaluation import memorisation, report
from juliagpt_jax.inference.generate import Generator

PROMPTS = ("", "the nature of", "it follows that", "what is the")  # "" is the start of a line
PICK_RULE = (
    "of each prompt's samples the one with the most true statements less false ones (on the schoolroom corpus, whose "
    "statements can be checked), then the fewest repeated 4-grams of words, then the most different pairs of words, "
    "then the lowest seed"
)


def write(
    generator: Generator, tokenizer: Tokenizer, prompts: Sequence[str], seeds: int, new_tokens: int
) -> list[dict[str, Any]]:
    """`new_tokens` behind each prompt with each of the seeds 0 .. seeds - 1, at the temperature of the report. In a
    prompt, characters that the tokenizer lacks are left out."""
    starts = [tokenizer.prompt(prompt, "skip").ids for prompt in prompts]
    rows = []
    for seed in range(seeds):
        written = generator.generate(starts, new_tokens, report.RULE, seed)
        rows += [
            {"prompt": prompt, "seed": seed, "text": tokenizer.decode(row)}
            for prompt, row in zip(prompts, written, strict=True)
        ]
    return sorted(rows, key=lambda row: prompts.index(row["prompt"]))


def pick(rows: Sequence[dict[str, Any]], schoolroom: bool) -> list[dict[str, Any]]:
    """One of each prompt's samples, by PICK_RULE and nothing else."""

    def rank(row: dict[str, Any]) -> tuple[float, float, float, int]:
        judged = report.judge([row["prompt"] + row["text"]], schoolroom)
        claims = judged.get("claims", 0)
        true = round(judged["truth_share"] * claims) if claims else 0
        worst = lambda value, otherwise: value if value == value else otherwise  # nan: too few words
        repeated, different = worst(judged["repetition_4"], 1.0), worst(judged["distinct_2"], 0.0)
        return claims - 2 * true, repeated, -different, row["seed"]

    prompts = dict.fromkeys(row["prompt"] for row in rows)
    return [min((row for row in rows if row["prompt"] == prompt), key=rank) for prompt in prompts]


def held_out(text: str, count: int, length: int) -> list[str]:
    """At most `count` pieces of `length` characters of a text, spread evenly over it, each from the start of a line
    where there are lines: what samples are compared with."""
    pieces = []
    for start in np.unique(np.linspace(0, max(0, len(text) - length), count).astype(int)):
        begin = text.rfind("\n", 0, start) + 1
        pieces.append(text[begin : begin + length])
    return list(dict.fromkeys(pieces))


def copied(rows: Sequence[dict[str, Any]], held: Sequence[str], training: str) -> dict[str, Any]:
    """Measure how much of the samples stands in the training text, beside `held` text that does not belong to it.

    Each row of `rows` gets "copy", its longest common substring with the training text (`characters`, `text`), and
    "nearest", the training passage most like it (`similarity`, `text`). Prompts count only where whole lines are
    compared. Returns the numbers over all samples and over all held pieces.
    """
    passages = training.split("\n")
    texts = [row["text"] for row in rows]
    both = [*texts, *held]
    copies, near = memorisation.longest_copies(both, training), memorisation.nearest(both, passages)
    for row, copy, (similarity, index) in zip(rows, copies, near, strict=False):
        row["copy"] = {"characters": copy.length, "text": row["text"][copy.at : copy.at + copy.length]}
        row["nearest"] = {"similarity": similarity, "text": passages[index] if similarity else ""}
    whole = {"samples": [row["prompt"] + row["text"] for row in rows], "held_out": held}
    parts = {"samples": slice(0, len(texts)), "held_out": slice(len(texts), None)}
    numbers = {}
    for name, part in parts.items():
        lengths, alike = [copy.length for copy in copies[part]], [similarity for similarity, _ in near[part]]
        shares = [length / max(1, len(text)) for length, text in zip(lengths, both[part], strict=True)]
        same, lines = memorisation.whole_lines(whole[name], passages)
        longest = {"mean": float(np.mean(lengths)), "median": float(np.median(lengths)), "max": max(lengths)}
        numbers[name] = {
            "texts": len(lengths),
            "characters": sum(map(len, both[part])),
            "longest_copy": longest,
            "share_copied": float(np.mean(shares)),
            "nearest_similarity": {"mean": float(np.mean(alike)), "max": max(alike)},
            "whole_lines": lines,
            "whole_lines_in_training": same,
        }
    return numbers
