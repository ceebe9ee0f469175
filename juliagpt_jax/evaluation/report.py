"""Everything one wants to know about a trained model, as one dict of plain names, and as text."""

import itertools
import math
import statistics
import time
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.evaluation import examples, puzzles, routing
from juliagpt_jax.evaluation.diversity import diversity
from juliagpt_jax.ground import config
from juliagpt_jax.inference import scoring
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.schoolroom import examiner

GENERATED_TOKENS = 10_000
ROWS = 20
RULE = Rule(temperature=0.8)
# Work in tokens of training, which are a forward and a backward pass of twice its cost.
SCORED_TOKEN = 1 / 3
WRITTEN_TOKEN = 1.0  # a forward pass too, but of one token at a time: as measured on processors
SHORT_TEXT = 127  # new tokens of each text that even the shortest run writes, if its context holds them


class Extent(NamedTuple):
    """The size of a report: windows of validation text that are scored, evenly spread, and tokens written."""

    windows: int
    written: int


def extent(settings: config.Config, val_tokens: int) -> Extent:
    """Return what the end of a run scores and writes, so that its work is at most `train.report_share` of training's.

    It follows from the config and the text alone, never from the clock: so the numbers of a finished run do too. No
    run scores fewer windows than `train.eval_windows`, or writes less than ROWS short texts. Where
    `train.final_windows` names a number of windows, it is that.

    Args:
        val_tokens: of the validation text.
    """
    train, context = settings.train, settings.model.context
    whole = scoring.window_count(val_tokens, context, context // 2)
    kinds = 2 if train.averages else 1  # the averaged weights are scored as well
    work = whole * context * kinds * SCORED_TOKEN + GENERATED_TOKENS * WRITTEN_TOKEN
    allowed = train.report_share * train.steps * train.batch_size * context
    part = min(1.0, allowed / work) if train.report_share else 1.0
    windows = train.final_windows or max(train.eval_windows, int(part * whole))
    short = ROWS * min(SHORT_TEXT, context - 1)
    written = max(short, int(part * GENERATED_TOKENS))
    return Extent(min(windows, whole), min(written, GENERATED_TOKENS))


def write(generator: Generator, tokenizer: Any, seed: int, tokens: int = GENERATED_TOKENS) -> tuple[list[str], float]:
    """Return `tokens` tokens of free text in ROWS pieces, each begun at the start of a line, at temperature 0.8; and
    the speed in characters a second, all pieces together, of the median block of steps: without compilation."""
    prompt = np.array([tokenizer.lead])
    blocks, times = [], [time.perf_counter()]
    for block in generator.stream([prompt] * ROWS, -(-tokens // ROWS), RULE, seed):
        blocks.append(block)
        times.append(time.perf_counter())
    seconds = statistics.median(b - a for a, b in itertools.pairwise(times))
    texts = [tokenizer.decode(row) for row in np.concatenate(blocks, axis=1)]
    return texts, sum(map(len, texts)) / (len(blocks) * seconds)


def judge(texts: list[str], schoolroom: bool) -> dict[str, float | int]:
    """Return the diversity of generated texts; on the schoolroom corpus also the share of checkable statements that are
    true."""
    values: dict[str, float | int] = dict(diversity(" ".join(texts)))
    if schoolroom:
        claims = [claim for text in texts for line in text.split("\n") for claim in examiner.examine(line)]
        values["claims"] = len(claims)
        values["truth_share"] = sum(claim.true for claim in claims) / len(claims) if claims else float("nan")
    return values


def passages(texts: list[str], count: int = 4) -> list[str]:
    """Return whole lines among the generated texts, of a readable length, one from each of the first texts that have
    one."""
    picked = []
    for text in texts:
        whole = [line.strip() for line in text.split("\n")[:-1] if 40 <= len(line.strip()) <= 300]
        picked += whole[:1]
    return picked[:count] or [text.strip() for text in texts[:count]]


def _scored(values: dict[str, Any]) -> str:
    """Say what was scored: in characters, and also in tokens where a token is none."""
    characters, tokens = values["characters"], values.get("scored_tokens", values["characters"])
    whole = values.get("text_characters", characters)
    of = f" of {whole:,}" if whole != characters else ""
    also = f" in {tokens:,} tokens" if tokens != characters else ""
    return f"{characters:,}{of} characters{also}{', evenly spread' if of else ''}"


def _word(values: dict[str, Any]) -> str:
    """Say a word's perplexity: of a model that knows nothing it can be beyond all numbers."""
    value = values["word_perplexity"]
    return f"{value:,.2f}" if math.isfinite(value) else "without bound"


def comparable(values: dict[str, Any]) -> str:
    """Return the perplexities of a token and of a word, and the bits per byte, of a score's plain values."""
    return f"perplexity {values['perplexity']:.4f}, of a word {_word(values)}; {values['bpb']:.4f} bits per byte"


def parameters(values: dict[str, Any]) -> str:
    """Say how many parameters there are, and how many of them a token goes through where that is not all."""
    active = values.get("active_params", values["params"])  # older reports lack it
    return f"{values['params']:,}" + (f", a token goes through {active:,}" if active != values["params"] else "")


def describe(values: dict[str, Any], entropy: float) -> str:
    """Return the report as text: a table, and its words. `entropy` is the corpus's own, in bits per character; nan
    where it is not known."""
    if "solved_by_step" in values:
        return puzzles.describe(values)
    if "answers" in values:
        return examples.describe(values)
    known = entropy == entropy
    written = f"   (in {values['written']:,} characters written)" if "written" in values else ""
    rows = [
        (
            "validation perplexity",
            f"{values['perplexity']:.4f}{' a token' if values.get('unit') == 'token' else ''}"
            + (f"   (the corpus's own: {2**entropy:.4f})" if known else ""),
        ),
        (
            "bits per character",
            f"{values['bpc']:.4f}" + (f"   (entropy of the corpus, the floor: {entropy:.4f})" if known else ""),
        ),
        (
            "protocol",
            values.get("protocol")  # older reports lack it
            or f"{_scored(values)}, each scored once, context {values['context']}, stride {values['stride']}",
        ),
    ]
    if "bpb" in values:
        rows[2:2] = [("bits per byte", f"{values['bpb']:.4f}"), ("word perplexity", _word(values))]
    beside = values.get("beside", [])
    for adapts, title in [(False, "beside it"), (True, "adapts to the text it reads")]:
        own = [row for row in beside if row["adapts"] is adapts]
        rows += [(title if not i else "", f"{row['name']}: {comparable(row)}") for i, row in enumerate(own)]
    if "leak_future" in values:
        how = "steps that adapt to each batch" if values["adaptive"] else "a schedule of steps"
        leaks = f"{values['leak_future']:.1e} from later tokens, {values['leak_rows']:.1e} from other rows"
        rows.append(("ODE layers", f"on {how}; a logit moves by {leaks}"))
        rows.append(("", f"decoding takes {values['evaluations']} evaluations of blocks a token"))
    rows += [
        (f"perplexity: {name}", f"{part['perplexity']:.4f}   ({part['characters']:,} characters)")
        for name, part in values.get("phases", {}).items()
    ]
    if "averaged" in values:
        own = values["averaged"]
        more = f"; {comparable(own)}" if "bpb" in own else ""
        rows.append(("with averaged weights", f"{own['bpc']:.4f} bits per character{more}"))
    rows += [
        ("parameters", parameters(values)),
        *(("experts" if not i else "", line) for i, line in enumerate(routing.describe(values.get("experts", {})))),
        ("training", f"{values['tokens']:,} tokens, {values['flops']:.3g} FLOPs by formula"),
    ]
    if "chars_per_s" in values:
        rows += [
            ("writing", f"{values['chars_per_s']:,.0f} characters/s, {ROWS} texts at a time"),
            ("distinct-1 / 2 / 3 (words)", " / ".join(f"{values[f'distinct_{n}']:.3f}" for n in (1, 2, 3)) + written),
            ("repeated 4-grams", f"{values['repetition_4']:.1%}"),
        ]
    if "truth_share" in values:
        share = f"{values['truth_share']:.1%} of" if values["claims"] else "of"
        rows.append(("true statements", f"{share} {values['claims']} checkable ones"))
    width = max(len(name) for name, _ in rows)
    table = "\n".join(f"{name:<{width}}  {text}" for name, text in rows)
    return "\n".join([table, *([""] if values.get("words") else []), *values.get("words", [])])
