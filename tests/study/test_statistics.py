"""Statistics over seeds, held to textbook numbers and to counts by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from juliagpt_jax.study import plots, tables
from juliagpt_jax.study.statistics import at_best_rate, holm, paired, spread, steps_to


def test_the_paired_interval_is_that_of_the_one_sample_t_test():
    rng = np.random.default_rng(0)
    base, gap = rng.normal(2, 0.5, 6), rng.normal(-0.1, 0.05, 6)
    got = paired(dict(enumerate(base)), dict(enumerate(base + gap)))
    known = stats.ttest_1samp(gap, 0)
    interval = known.confidence_interval(0.95)
    np.testing.assert_allclose([got.low, got.high, got.p], [interval.low, interval.high, known.pvalue], rtol=1e-9)
    assert got.n == 6 and got.tells and got.mean == pytest.approx(gap.mean())


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    zero = dict.fromkeys(range(4), 0.0)
    draws = [paired(zero, dict(enumerate(rng.normal(0.3, 1.0, 4)))) for _ in range(4000)]
    inside = np.mean([d.low <= 0.3 <= d.high for d in draws])
    assert abs(inside - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 4000)


def test_only_seeds_that_both_have_are_paired():
    got = paired({1: 1.0, 2: 2.0, 3: 50.0}, {1: 1.5, 2: 2.7, 4: -9.0})
    assert got.n == 2 and got.mean == pytest.approx(0.6)


def test_one_seed_gives_no_interval_and_none_gives_nothing():
    one = paired({1: 1.0}, {1: 1.5})
    assert one.mean == 0.5 and math.isnan(one.low) and math.isnan(one.p) and not one.tells
    assert math.isnan(paired({}, {}).mean)


def test_equal_differences_have_an_interval_of_no_width():
    assert paired({1: 1.0, 2: 2.0}, {1: 1.0, 2: 2.0}).p == 1.0
    assert paired({1: 1.0, 2: 2.0}, {1: 1.5, 2: 2.5}).tells


def test_holm_on_a_textbook_case():
    # Holm's procedure on .01, .04, .03, .005: 4 x .005, 3 x .01, 2 x .03, then the largest so far
    got = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "none": math.nan})
    assert [got[k] for k in "abcd"] == pytest.approx([0.03, 0.06, 0.06, 0.02]) and math.isnan(got["none"])
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(
    "target, steps", [(3.0, 10), (2.5, 15), (2.0, 20), (1.5, 35), (0.9, math.inf), (9.0, 10)], ids=str
)
def test_steps_to_a_target(target, steps):
    assert steps_to([[10, 3.0], [20, 2.0], [30, 2.0], [40, 1.0]], target) == pytest.approx(steps)


def test_steps_over_a_measurement_that_was_not_finite():
    assert steps_to([[10, None], [20, 1.0]], 2.0) == 20


def test_the_best_rate_is_best_on_average_over_seeds_and_measures():
    seeds = {1e-2: [(0.9, 0.9), (0.1, 0.1)], 1e-3: [(0.8, 0.2), (0.8, 0.4)], 3e-3: [(0.0, 1.0)]}
    rows = [{"rate": rate, "seed": i, "a": a, "b": b} for rate in seeds for i, (a, b) in enumerate(seeds[rate])]
    best = lambda *measures: [(row["rate"], row["seed"]) for row in at_best_rate(rows, *measures)]
    assert best("a", "b") == [(1e-3, 0), (1e-3, 1)]
    assert best("b") == [(3e-3, 0)]
    assert {row["rate"] for row in at_best_rate([row | {"a": 1.0} for row in rows], "a")} == {1e-3}
    with pytest.raises(ValueError, match="empty"):
        at_best_rate([], "a")


def test_spread():
    assert spread([1.0, 2.0, 3.0], ".2f") == "2.00 ± 1.00" and spread([1.0], ".1f") == "1.0" and spread([]) == "-"


def row(arm, seed, loss, status="done"):
    common = {"arm": arm, "seed": seed, "status": status}
    if status != "done":
        return common | {"error": "exit 3: numbers"}
    numbers = {"loss": loss, "bpc": loss / math.log(2), "perplexity": math.exp(loss), "params": 10, "flops": 1e9}
    facts = {"characters": 100, "context": 8, "stride": 4, "tokens": 50, "machine": "m", "device": "d"}
    rest = {"tokens_per_s": 5.0, "step_s": 0.5, "versions": {"jax": "1"}, "curve": [[10, loss + 1], [20, loss]]}
    return common | numbers | facts | rest | {"phases": {"logic": {"loss": loss}}}


def test_a_comparison_says_what_a_reader_must_know():
    rows = [row("base", s, 2.0 + s / 10) for s in (1, 2, 3)]
    rows += [row("good", s, 1.5 + s / 10 + s / 100) for s in (1, 2, 3)]
    rows += [row("same", s, 2.0 + s / 10 + (-1) ** s / 10) for s in (1, 2, 3)]
    rows += [row("bad", 1, 2.9), row("bad", 2, 0, "FAILED")]
    lines = tables.compare(rows, ["base", "good", "same", "bad"], "base")
    table = tables.cells(lines, "base", ("phases.logic.loss",))
    text = tables.markdown(table, tables.notes(lines, "base"))
    head, base, good, same, bad = (dict(zip(table[0], r, strict=True)) for r in table)
    assert head["arm"] == "arm" and base["difference in loss [95%]"] == ""
    assert (
        good["difference in loss [95%]"].startswith("-0.4800 [-0.50") and good["steps to the baseline's loss"] == "15"
    )
    assert good["seconds"] == "8", "15.2 steps of half a second"
    assert good["phases.logic.loss"] == good["loss (nats)"] and "±" in good["loss (nats)"]
    assert same["steps to the baseline's loss"] == "19 (1 of 3 never)"
    assert bad["seeds"] == "1 + 1 FAILED" and bad["steps to the baseline's loss"] == "not reached"
    assert "Not told apart from base by these seeds: same." in text and "Too few seeds to tell (1)" in text
    assert "FAILED: bad, seed 2: exit 3: numbers" in text


def test_arms_of_other_tokens_are_compared_by_bits_per_character():
    """Twice the loss a token, for three characters each: fewer bits, and the baseline's end is reached on the way."""
    chars = {"config": {"data.tokenizer": "char"}}
    pieces = {"config": {"data.tokenizer": "bpe.json"}}
    rows = [row("base", s, 1.5 + s / 100) | {"bpc": 2.0 + s / 100} | chars for s in (1, 2)]
    rows += [row("bpe", s, 3.0 + s / 100) | {"bpc": 1.4 + s / 100} | pieces for s in (1, 2)]
    lines = tables.compare(rows, ["base", "bpe"], "base")
    table = tables.cells(lines, "base")
    head, base, bpe = (dict(zip(table[0], r, strict=True)) for r in table)
    assert bpe["difference in bits/char [95%]"].startswith("-0.6000 [") and "difference in loss [95%]" not in head
    ends = [line.curve(line.rows[0])[-1][1] for line in lines]
    assert ends == pytest.approx([rows[0]["curve"][-1][1] * 2.01 / 1.51, rows[2]["curve"][-1][1] * 1.41 / 3.01])
    assert base["steps to the baseline's bits/char"] != "not reached" != bpe["steps to the baseline's bits/char"]
    older = [r | {"config": {}} for r in rows[:2]] + [r | chars for r in rows[2:]]  # of rows older than the knob, too
    for same in ([r | chars for r in rows], older):
        assert "difference in loss [95%]" in tables.cells(tables.compare(same, ["base", "bpe"], "base"), "base")[0]


def test_measures_have_names_and_units():
    rows = [row("base", seed, 2.0) | {"model_bytes": 1.5e6, "step_s": 0.0315} for seed in (1, 2)]
    lines = tables.compare(rows, ["base"], "base")
    head, base = tables.cells(lines, "base", ("model_bytes", "step_s", "stride"))
    assert head[-3:] == ["stored weights, MB", "ms a step", "stride"]
    assert base[-3:-1] == ["1.500 ± 0.000", "31.5 ± 0.0"]


def test_the_table_in_three_forms():
    table = [["arm", "50% & more"], ["a_b", "1 ± 2, x"]]
    assert tables.markdown(table).splitlines()[:3] == ["| arm | 50% & more |", "|---|---|", "| a_b | 1 ± 2, x |"]
    assert tables.comma_separated(table) == 'arm,50% & more\na_b,"1 ± 2, x"\n'
    assert r"a\_b & 1 $\pm$ 2, x \\" in tables.latex(table) and r"50\% \& more" in tables.latex(table)


def test_a_front_has_what_nothing_beats():
    points = [(1.0, 9.0), (2.0, 4.0), (3.0, 4.0), (3.0, 3.0), (5.0, 5.0), (1.0, 9.0)]
    assert plots.front(points) == [0, 1, 3, 5], "not the one as good and dearer, nor the one worse in both"


def test_plots_of_arms_that_differ_in_what_they_cost(tmp_path):
    """One panel where only steps differ, the budgets too where they do; no plot of what all have alike."""
    alike = [row(arm, s, 2.0 + s / 10) for arm in ("base", "other") for s in (1, 2)]
    drawn = plots.draw(tables.compare(alike, ["base", "other"], "base"), "base", tmp_path)
    assert [p.name for p in drawn] == ["curves.png", "differences.png"]
    one_panel = width(tmp_path / "curves.png")
    noisy = [r | {"chars_per_s": 6.0 + (r["arm"] == "other")} for r in alike]
    drawn = plots.draw(tables.compare(noisy, ["base", "other"], "base"), "base", tmp_path)
    assert [p.name for p in drawn] == ["curves.png", "differences.png"], "one model has one speed"
    other = {"flops": 3e9, "params": 20, "chars_per_s": 7.0, "config": {"model.width": 4}}
    dear = [r | other if r["arm"] == "other" else r for r in alike]
    drawn = plots.draw(tables.compare(dear, ["base", "other"], "base"), "base", tmp_path)
    assert [p.name for p in drawn] == ["curves.png", "differences.png", "size.png"], "one arm alone has a speed"
    assert width(tmp_path / "curves.png") > one_panel


def width(path):
    import matplotlib.image

    return matplotlib.image.imread(path).shape[1]
