"""How a model is trained: optimizers, switches of the decoder, and the best of both."""

import statistics

from measures import Holds, Results, Statistic, Suite, Table, suite_table

KINDS = {"adamw": "AdamW", "muon": "Muon", "soap": "SOAP", "kfac": "K-FAC"}
TUNING = Suite("optimizers/results/tuning/results.jsonl", "adamw, lr 0.004")
OPTIMIZERS = Suite(
    "optimizers/results/steps/results.jsonl",
    "adamw",
    "optimizers (to AdamW)",
    KINDS | {"adamw, one rate": "AdamW, one rate"},
)
SECONDS = Suite(
    "optimizers/results/seconds/results.jsonl",
    "adamw",
    "equal seconds (to AdamW)",
    KINDS | {"adamw, one rate": "AdamW, one rate"},
)
SWITCHES = Suite(
    "optimizers/results/switches/results.jsonl",
    "baseline",
    "switches (to none)",
    {
        "qk_norm": "normalised queries, keys",
        "relu2": "squared ReLU",
        "softcap 15": "soft cap of the logits",
        "zero_init": "zero-initialised ends",
        "x0_skip": "skip from the embedding",
    },
)
STACK = Suite(
    "optimizers/results/stack/results.jsonl",
    "adamw",
    "stack (to AdamW)",
    {
        "adamw": "AdamW",
        "adamw + qk_norm": "AdamW, qk norm",
        "soap": "SOAP",
        "soap + qk_norm": "SOAP, qk norm",
        "soap + qk_norm + zero_init": "... and zero ends",
        "soap + qk_norm + zero_init + x0_skip": "... and skip",
    },
)
SECOND = ("muon", "soap", "kfac")
BEST = "soap + qk_norm + zero_init"
STATED = {"AimOptimizer": "40%"}


def tuned(results: Results, two_rates: bool) -> float:
    """The least loss of AdamW in the tuning, with a rate of its own for what is no matrix or without."""
    rows = [row for row in results.rows(TUNING.name) if row["arm"].startswith("adamw")]
    return min(row["loss"] for row in rows if ("adam_lr" in row["arm"]) == two_rates)


def spent(results: Results, arm: str) -> list[float]:
    """Seconds that the training steps of each seed of an arm took, by the median step."""
    return [row["curve"][-1][0] * row["step_s"] for row in SECONDS.pick(results, arm)]


NUMBERS: dict[str, Statistic] = {
    "TuneSeed": TUNING.distinct({}, "seed"),
    "TuneCells": TUNING.count({}),
    "TuneAdamOne": lambda results: f"{tuned(results, False):.3f}",
    "TuneAdamTwo": lambda results: f"{tuned(results, True):.3f}",
    "TuneGain": lambda results: f"{tuned(results, False) - tuned(results, True):.3f}",
    "OptimizerSteps": OPTIMIZERS.value({}, "config.train.steps"),
    "OptimizerSeeds": OPTIMIZERS.distinct({}, "seed"),
    "OptimizerOneGap": OPTIMIZERS.gap("adamw, one rate"),
    "OptimizerMostP": lambda results: f"{max(OPTIMIZERS.line(results, k).corrected for k in SECOND):.2g}",
    "KfacLess": OPTIMIZERS.steps_less("kfac"),
    "SoapLess": OPTIMIZERS.steps_less("soap"),
    "MuonLess": OPTIMIZERS.steps_less("muon"),
    "KfacLessOne": OPTIMIZERS.steps_less("kfac", "adamw, one rate"),
    "MuonTime": OPTIMIZERS.times("muon", "adamw", "step_s", ".2f"),
    "SoapTime": OPTIMIZERS.times("soap", "adamw", "step_s", ".2f"),
    "KfacTime": OPTIMIZERS.times("kfac", "adamw", "step_s", ".2f"),
    "SecondsBudget": lambda results: f"{statistics.median(spent(results, 'adamw')):.0f}",
    "SecondsLeast": lambda results: f"{min(min(spent(results, x.arm)) for x in results.lines(SECONDS).values()):.0f}",
    "SecondsMost": lambda results: f"{max(max(spent(results, x.arm)) for x in results.lines(SECONDS).values()):.0f}",
    "SecondsSeeds": SECONDS.distinct({}, "seed"),
    **{f"Seconds{kind.title()}Gap": SECONDS.gap(kind) for kind in SECOND},
    "SecondsMuonP": SECONDS.p("muon"),
    "SecondsSoapP": SECONDS.p("soap"),
    "SecondsSoapMuon": SECONDS.gap("soap", "muon"),
    "SwitchComparisons": SWITCHES.comparisons(),
    "SwitchSteps": SWITCHES.value({}, "config.train.steps", ",d"),
    "SwitchSeeds": SWITCHES.distinct({}, "seed"),
    "SwitchNormGap": SWITCHES.gap("qk_norm"),
    "SwitchNormP": SWITCHES.p("qk_norm"),
    "SwitchZeroGap": SWITCHES.gap("zero_init"),
    "SwitchReluGap": SWITCHES.gap("relu2"),
    "StackSeeds": STACK.distinct({}, "seed"),
    "StackGap": STACK.gap(BEST),
    "StackP": STACK.p(BEST),
    "StackLess": STACK.steps_less(BEST),
    "StackSoapGap": STACK.gap(BEST, "soap"),
}

TABLES: dict[str, Table] = {
    "optimizers": suite_table(OPTIMIZERS, "", "loss", "difference [95%]", "p", "steps", "seconds"),
    "seconds": suite_table(SECONDS, "", "steps done", "loss", "difference [95%]", "p", "seconds"),
    "stack": suite_table(STACK, "", "loss", "difference [95%]", "p", "steps", "seconds"),
}

HOLDS: Holds = {
    "TwoRatesBetter": (
        "AdamW ends lower with two rates than with one, in the tuning",
        lambda results: tuned(results, True) < tuned(results, False),
    ),
    "OneRateNotTold": (
        "on three seeds AdamW with one rate is not told from AdamW with two",
        lambda results: not OPTIMIZERS.difference(results, "adamw, one rate").tells,
    ),
    "OptimizersTold": (
        "Muon, SOAP and K-FAC end below AdamW, after Holm as well",
        lambda results: all(
            OPTIMIZERS.difference(results, kind).high < 0 and OPTIMIZERS.line(results, kind).corrected < 0.05
            for kind in SECOND
        ),
    ),
    "OptimizerAimMissed": (
        "no optimizer takes 40% fewer steps than AdamW with two rates; K-FAC does than AdamW with one",
        lambda results: (
            min(OPTIMIZERS.steps_to(results, kind) for kind in SECOND) > 0.6 * 500
            and OPTIMIZERS.steps_to(results, "kfac", "adamw, one rate") <= 0.6 * 500
        ),
    ),
    "NoSecondsGained": (
        "no optimizer gains a tenth of AdamW's seconds to its loss",
        lambda results: all(
            statistics.median(OPTIMIZERS.line(results, kind).seconds)
            > 0.9 * statistics.median(OPTIMIZERS.line(results, "adamw").seconds)
            for kind in SECOND
        ),
    ),
    "SecondsTold": (
        "at equal seconds Muon and SOAP end below AdamW, before Holm's correction and not after",
        lambda results: all(
            SECONDS.difference(results, kind).high < 0 and SECONDS.line(results, kind).corrected > 0.05
            for kind in ("muon", "soap")
        ),
    ),
    "SecondsKfac": (
        "at equal seconds K-FAC is not told from AdamW",
        lambda results: not SECONDS.difference(results, "kfac").tells,
    ),
    "SecondsOrder": (
        "at equal seconds Muon has the lowest mean and K-FAC the highest of the three, at equal steps the reverse",
        lambda results: (
            sorted(SECOND, key=lambda kind: SECONDS.difference(results, kind).mean) == ["muon", "soap", "kfac"]
            and sorted(SECOND, key=lambda kind: OPTIMIZERS.difference(results, kind).mean) == ["kfac", "soap", "muon"]
        ),
    ),
    "OneSwitch": (
        "normalised queries and keys are the one switch with an interval below zero, and nothing is told after Holm",
        lambda results: (
            [line.arm for line in SWITCHES.others(results) if line.difference.tells] == ["qk_norm"]
            and SWITCHES.difference(results, "qk_norm").high < 0
            and all(line.corrected > 0.05 for line in SWITCHES.others(results))
        ),
    ),
    "ReluBehind": (
        "squared ReLU is behind on every seed",
        lambda results: SWITCHES.on_every_seed(results, "relu2", "baseline", 1),
    ),
    "BestStack": (
        "SOAP with normalised queries and keys and zero-initialised ends has the lowest mean of the stack",
        lambda results: min(STACK.others(results), key=lambda line: line.difference.mean).arm == BEST,
    ),
}
