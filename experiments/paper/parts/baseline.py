"""The baseline itself: on real text at a known budget, its knobs, and its speed beside peers."""

import functools
import json
import runpy
from pathlib import Path
from typing import Any

from measures import File, Holds, Results, Statistic, Table, dig

ROOT = Path(__file__).resolve().parents[3]

SHAKESPEARE = File("real_text/shakespeare/results.jsonl")
CLASSICS = File("real_text/classics/results.jsonl")
SOBOL = File("sobol/results.jsonl")
SPEED = File("speed/pairs.jsonl")
STATED = {
    "NanogptLoss": "1.88",  # nanoGPT's README, the run on a CPU
    "AimTraining": "1.2",
}


@functools.cache
def _sobol(text: str) -> tuple[list[Any], int, int, float]:
    """(indices of each knob, runs, tokens of a run, share of the variance of unseen runs that is explained), from the
    rows as one text: it takes seconds, and the same rows are asked for many times."""
    import numpy as np

    from juliagpt_jax.study.sobol import GaussianProcess, surrogate_indices

    study = runpy.run_path(str(ROOT / "experiments" / "sobol" / "run.py"))
    rows = json.loads(text)[study["REPEATS"] :]
    x, y = np.array([row["u"] for row in rows]), np.array([row["bpc"] for row in rows])
    indices, _ = surrogate_indices(study["KNOBS"], x, y, 0)
    folds, errors = np.arange(len(y)) % 8, []
    for fold in range(8):
        process = GaussianProcess(x[folds != fold], y[folds != fold])
        errors += list(process.draws(x[folds == fold], 0, 0)[0] - y[folds == fold])
    explained = 1 - float(np.square(errors).sum() / np.square(y - y.mean()).sum())
    knobs = [(knob, index) for knob, index in zip(study["KNOBS"], indices, strict=True)]
    return knobs, len(rows), study["TOKENS"], explained


def sobol(results: Results) -> tuple[list[Any], int, int, float]:
    """See `_sobol`."""
    return _sobol(json.dumps(results.rows(SOBOL.name)))


NUMBERS: dict[str, Statistic] = {
    # real text
    "ShakespeareCharacters": SHAKESPEARE.value({}, "characters", ",d"),
    "ShakespeareTokens": SHAKESPEARE.value({}, "tokens", ",d"),
    "ShakespeareParams": SHAKESPEARE.value({}, "params", ",d"),
    "ShakespeareLoss": SHAKESPEARE.spread({}, "loss"),
    "ShakespeareRuns": SHAKESPEARE.count({}),
    "ClassicsParams": CLASSICS.value({}, "params", ",d"),
    "ClassicsBpc": CLASSICS.value({}, "bpc", ".3f"),
    "ClassicsTokens": CLASSICS.value({}, "tokens", ",d"),
    # knobs
    "SobolRuns": lambda results: str(sobol(results)[1]),
    "SobolTokens": lambda results: f"{sobol(results)[2]:,}",
    "SobolExplained": lambda results: f"{sobol(results)[3]:.0%}",
}


def sobol_table(results: Results) -> list[list[str]]:
    """Indices of each knob."""
    rows = [["knob", "range", "S1", "ST"]]
    for knob, index in sobol(results)[0]:
        span = ", ".join(map(str, knob.levels)) or f"{knob.low:g} to {knob.high:g}" + (" (log)" if knob.log else "")
        shown = lambda name, i=index: "{:.2f} [{:.2f}, {:.2f}]".format(
            *(getattr(i, name + end) + 0.0 for end in ("", "_low", "_high"))
        )
        rows.append([knob.key, span, shown("S1").replace("-0.00", "0.00"), shown("ST")])
    return rows


def speed_table(results: Results) -> list[list[str]]:
    """Ours beside the peer's."""
    rows = [["", "ours", "peer", "ratio", "rounds"]]
    for row in SPEED.pick(results, {}):
        what, size = row["name"].split("_")[:2]
        peer = row["name"].split("_vs_")[1]
        peers = {"torch_eager_llama": "PyTorch", "llamacpp_f32": "llama.cpp, float32"}
        label = f"{'training' if what == 'train' else 'generation'}, {size}, beside {peers.get(peer, peer)}"
        pair = row["pair"]
        span = "{median:.2f} [{min:.2f}, {max:.2f}]".format(**pair["ratio_a_over_b"])
        rows.append([label, f"{pair['a']['median']:,.0f}", f"{pair['b']['median']:,.0f}", span, str(pair["rounds"])])
    return rows


TABLES: dict[str, Table] = {"sobol": sobol_table, "speed": speed_table}

HOLDS: Holds = {
    "BelowNanogpt": (
        "the loss on tiny Shakespeare is below the recipe's",
        lambda results: max(SHAKESPEARE.values(results, {}, "loss")) < float(STATED["NanogptLoss"]),
    ),
    "PhilosophyDoesNotMatter": (
        "the share of philosophy explains less than 1% of the variance",
        lambda results: next(i.ST_high for _, i in sobol(results)[0] if i.key == "share of philosophy") < 0.01,
    ),
    "FourKnobs": (
        "four knobs matter about alike (total indices of 0.2 to 0.5) and interact (above the first-order ones)",
        lambda results: all(0.2 < i.ST < 0.5 and i.S1 < i.ST - 0.05 for _, i in sobol(results)[0][:4]),
    ),
    "AimsMissed": (
        "generation is below ten times transformers, and training of base below 1.2 times PyTorch",
        lambda results: all(
            SPEED.values(results, {"name": name}, "pair.ratio_a_over_b.median")[0] < aim
            for name, aim in (
                ("gen_tiny_b1_vs_transformers", 10),
                ("train_base_vs_torch_eager_llama", float(STATED["AimTraining"])),
            )
        ),
    ),
    "FasterThanTorch": (
        "training is faster than PyTorch, generation than transformers, and level with llama.cpp",
        lambda results: (
            min(SPEED.values(results, {}, "pair.ratio_a_over_b.median")) > 0.95
            and all(
                dig(row, "pair.ratio_a_over_b.min") > 1
                for row in SPEED.pick(results, {})
                if "llamacpp" not in row["name"]
            )
        ),
    ),
}
