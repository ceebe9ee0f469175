"""Diversity, cost and the report: numbers against examples worked out by hand."""

import math
import re
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.evaluation import cost, report
from juliagpt_jax.evaluation.diversity import distinct, diversity, repetition
from juliagpt_jax.ground import config_file
from juliagpt_jax.inference import scoring
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import count
from juliagpt_jax.training import step
from juliagpt_jax.training.mesh import one_device
from juliagpt_jax.training.state import Frozen, initial_state

CONFIGS = Path(__file__).parents[2] / "configs"
WORDS = "the cat saw the cat and the cat saw the dog".split()
# 11 words, 5 different. Pairs: the-cat x3, cat-saw x2, saw-the x2, cat-and, and-the, the-dog: 10, 6 different.
# Fours, 8: the-cat-saw-the twice, the other 6 once.


def test_distinct():
    assert distinct(WORDS, 1) == 5 / 11
    assert distinct(WORDS, 2) == 6 / 10
    # the-cat-saw x2, cat-saw-the x2, saw-the-cat, the-cat-and, cat-and-the, and-the-cat, saw-the-dog: 9, 7 different
    assert distinct(WORDS, 3) == 7 / 9
    assert distinct(["a"] * 5, 1) == 1 / 5


def test_repetition():
    assert repetition(WORDS) == 2 / 8
    assert repetition(["a"] * 9) == 1
    assert repetition("a b c d e".split()) == 0


@pytest.mark.parametrize("words", [[], ["a"], ["a", "b", "c"]], ids=len)
def test_too_short_for_a_number(words):
    assert math.isnan(repetition(words)) and math.isnan(distinct(words, len(words) + 1))


def test_diversity_of_a_text():
    text = " the cat saw\nthe cat\tand the cat  saw the dog\n"
    assert diversity(text) == {"distinct_1": 5 / 11, "distinct_2": 6 / 10, "distinct_3": 7 / 9, "repetition_4": 2 / 8}


@pytest.mark.parametrize("tie", ["true", "false"])
def test_training_cost(tie, tiny):
    """6 (all matrices that multiply) + 12 L D T a token: by hand for width 32, 2 layers, hidden 48, context 16."""
    config, vocab = tiny(f"model.tie={tie}"), 50
    model = build_model(config, vocab)
    params = count(jax.eval_shape(lambda: initial_state(config, model).params))
    block = 4 * 32 * 32 + 3 * 32 * 48 + 2 * 32
    assert params == 2 * block + 32 + vocab * 32 * (1 if tie == "true" else 2)
    wanted = 6 * (2 * block + 32 + vocab * 32) + 12 * 2 * 32 * 16
    assert cost.train_flops_per_token(config.model, params, vocab) == wanted


def test_compiled_flops():
    product = jax.jit(lambda a, b: a @ b).lower(jnp.ones((64, 32)), jnp.ones((32, 48))).compile()
    assert cost.compiled_flops(product) == pytest.approx(2 * 64 * 32 * 48, rel=0.01)
    assert cost.compiled_flops(product, repeats=3) == 3 * cost.compiled_flops(product)


@pytest.mark.parametrize("analysis", [None, [], {}, [{}]], ids=repr)
def test_a_compiler_that_does_not_count(analysis):
    class Silent:
        def cost_analysis(self):
            return analysis

    assert math.isnan(cost.compiled_flops(Silent()))


def test_formula_is_near_the_compilers_count(tiny):
    """Within a tenth, where the vocabulary and the context are small beside the width."""
    config, vocab = tiny("model.width=128", "model.heads=2", "model.ffn_mult=4.0", "train.precision=f32"), 32
    model = build_model(config, vocab)
    mesh = one_device()
    state = jax.eval_shape(lambda: initial_state(config, model))
    batch = Batch(*(jax.ShapeDtypeStruct((8, 16), jnp.int32),) * 2)
    counted = cost.compiled_flops(step.make_train_step(config, model, mesh).lower(state, batch, Frozen()).compile())
    params = count(state.params)
    formula = 8 * 16 * cost.train_flops_per_token(config.model, params, vocab)
    update = 30 * params  # the optimizer, of which the formula knows nothing and which is large beside 128 tokens
    assert 0.9 < (counted - update) / formula < 1.1


def test_peaks():
    assert cost.peak_flops("NVIDIA H100 80GB HBM3", "bf16") == 989e12
    assert cost.peak_flops("NVIDIA A100-SXM4-40GB", "f32") == 19.5e12
    assert cost.peak_flops("NVIDIA L4", "f16") == 121e12
    assert math.isnan(cost.peak_flops("cpu", "f32"))


def test_judge():
    values = report.judge(["the cat saw the cat", "and the cat saw the dog"], schoolroom=False)
    assert values == diversity(" ".join(WORDS))
    values = report.judge(["nothing to check here\n"], schoolroom=True)
    assert values["claims"] == 0 and math.isnan(values["truth_share"])


def test_passages():
    """Whole lines only: the last of a text may be cut off."""
    line = "a line of a length that a reader likes to see"
    assert report.passages([f"short\n{line}\nand the rest of it is cut off here, somewhere in the mid"]) == [line]
    assert report.passages(["no line end"]) == ["no line end"]
    assert len(report.passages([f"{line}\nx"] * 9)) == 4


VAL = 151_220  # characters of the schoolroom's validation text


OF_TEXTS = [p for p in sorted(CONFIGS.glob("*.py")) if config_file.load(str(p)).data.task == "none"]


@pytest.mark.parametrize("path", OF_TEXTS, ids=lambda path: path.stem)
def test_a_config_as_it_is_scores_the_whole_text(path):
    asked, all_of_it = (
        report.extent(config_file.load(str(path), more), VAL) for more in ([], ["train.report_share=0"])
    )
    assert asked == all_of_it and asked.written == 10_000


def test_a_short_run_scores_and_writes_in_proportion():
    micro = lambda *changes: report.extent(
        config_file.load(str(CONFIGS / "micro.py"), ["train.warmup=1", *changes]), VAL
    )
    assert micro("train.steps=20") == (128, 20 * 127), "no less than train.eval_windows, and a context's worth of texts"
    assert micro("train.steps=20", "train.eval_windows=16")[0] == 109, (
        "2,362 * 0.25 * 20,480 / (2,362 * 128 / 3 + 10,000)"
    )
    assert micro("train.steps=20", "model.context=16") == (128, 20 * 15), "texts for which no window rolls"
    half = micro("train.steps=200")
    work = half.windows * 128 / 3 + half.written
    assert 0.24 < work / (200 * 8 * 128) <= 0.25
    assert micro("train.steps=20", "train.report_share=0") == (2362, 10_000)
    assert micro("train.steps=200", "train.ema=0.9").windows < half.windows, "two kinds of weights are scored"
    assert micro("train.steps=20", "train.final_windows=700") == (700, 20 * 127)
    assert micro("train.steps=2000", "train.final_windows=9999").windows == 2362
    assert report.extent(config_file.load(str(CONFIGS / "micro.py")), 5) == (1, 10_000), "a text below the context"


def test_whole_is_what_is_scored_without_a_limit():
    """The number of windows is that of `score_text`: asking for as many changes nothing, for one fewer does."""
    windows = report.extent(config_file.load(str(CONFIGS / "micro.py")), 1000).windows
    inputs, _ = scoring.strided(np.zeros(1000, np.int32), 128, 64, 0)
    assert windows == len(inputs) == scoring.window_count(1000, 128, 64)


@pytest.mark.parametrize("entropy", [0.75, math.nan])
@pytest.mark.parametrize(
    "extra", [{}, {"truth_share": 0.5, "claims": 12, "averaged": {"bpc": 1.5}}], ids=["plain", "all"]
)
def test_report_as_text(entropy, extra):
    values = {"perplexity": 4.0, "bpc": 2.0, "characters": 1000, "context": 16, "stride": 8, "params": 1234567}
    values |= {
        "tokens": 10**6,
        "chars_per_s": 4321.0,
        "flops": 1e12,
        "distinct_1": 0.5,
        "distinct_2": 0.6,
        "distinct_3": 0.7,
        "repetition_4": 0.25,
    }
    whole = report.describe(values | {"text_characters": 1000, "written": 77} | extra, entropy)
    assert "   1,000 characters, each scored once" in whole and "in 77 characters written" in whole
    part = report.describe(values | {"text_characters": 9000, "words": ["Good.", "Go on."]} | extra, entropy)
    assert "1,000 of 9,000 characters, evenly spread, each scored once" in part
    assert part.endswith("\n\nGood.\nGo on.")
    text = report.describe(values | extra, entropy)
    assert ("0.7500" in text) == (entropy == 0.75)
    for piece in ("4.0000", "2.0000", "1,000 characters", "context 16, stride 8", "1,234,567", "25.0%"):
        assert piece in text
    assert ("50.0% of 12" in text) == bool(extra) == ("1.5000" in text)
    assert "nan" not in text


def test_a_report_in_tokens_words_and_bytes():
    """Perplexities of tokens are said to be that; what adapts stands under its own title."""
    score = {"perplexity": 40.0, "bpc": 1.2, "bpb": 1.25, "word_perplexity": 73.456, "characters": 1000}
    values = score | {"unit": "token", "protocol": "200 tokens of it", "context": 16, "stride": 8, "params": 7}
    values |= {"tokens": 9, "chars_per_s": 4.0, "flops": 1.0, "repetition_4": 0.0}
    values |= {f"distinct_{n}": 0.5 for n in (1, 2, 3)}
    rows = [score | {"name": "counted", "adapts": False}, score | {"name": "cached", "adapts": True}]
    text = report.describe(values | {"beside": rows, "averaged": score}, math.nan)
    for line in (
        r"validation perplexity +40\.0000 a token",
        r"bits per byte +1\.2500",
        r"word perplexity +73\.46",
        r"protocol +200 tokens of it",
        r"beside it +counted: perplexity 40\.0000, of a word 73\.46; 1\.2500 bits per byte",
        r"adapts to the text it reads +cached: perplexity 40\.0000",
        r"with averaged weights +1\.2000 bits per character; perplexity 40\.0000, of a word 73\.46",
    ):
        assert re.search(f"^{line}", text, re.MULTILINE), line
    assert "word perplexity" in report.describe(values | {"word_perplexity": math.inf}, math.nan)


def test_the_speed_of_writing_is_without_compilation(monkeypatch):
    """Three blocks of four characters in each row, of which the first takes ten seconds more."""
    from juliagpt_jax.data.tokenizer import CharTokenizer

    clock = iter([0.0, 11.0, 12.0, 13.0])
    monkeypatch.setattr(report, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    blocks = [np.zeros((report.ROWS, 4), int)] * 3
    generator = types.SimpleNamespace(stream=lambda *given: iter(blocks))
    texts, speed = report.write(generator, CharTokenizer.train("\nab c"), seed=1, tokens=12 * report.ROWS)
    assert speed == sum(map(len, texts)) / 3 == 4 * report.ROWS


def test_what_is_written_has_its_length(tiny):
    """As many characters as asked for, in equal rows, as text."""
    from juliagpt_jax.data.tokenizer import CharTokenizer
    from juliagpt_jax.inference.generate import Generator

    config, tokenizer = tiny("model.width=16", "model.layers=1"), CharTokenizer.train("\nab c")
    model = build_model(config, tokenizer.vocab_size)
    generator = Generator(model, jax.jit(lambda: initial_state(config, model).params)())
    texts, speed = report.write(generator, tokenizer, seed=1, tokens=410)
    assert speed > 0
    assert len(texts) == report.ROWS and {len(text) for text in texts} == {-(-410 // report.ROWS)}
    assert len(set(texts)) == report.ROWS
    assert report.write(generator, tokenizer, seed=1, tokens=410)[0] == texts
    assert np.mean([a == b for a, b in zip(texts, report.write(generator, tokenizer, 2, 410)[0], strict=True)]) < 0.1
