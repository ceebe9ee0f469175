"""The baseline itself: on real text at a known budget, its knobs, and its speed beside peers."""

import functools
import json
import math
import re
import runpy
from pathlib import Path
from typing import Any

from measures import File, Holds, Results, Statistic, Table, dig

from juliagpt_jax.study import parity_page

ROOT = Path(__file__).resolve().parents[3]

SHAKESPEARE = File("real_text/results/shakespeare/results.jsonl")
CLASSICS = File("real_text/results/classics/results.jsonl")
SOBOL = File("sobol/results/indices/results.jsonl")
SPEED = File("speed/results/pairs/pairs.jsonl")
PARITY = File("parity/results/micro/parity.json")
STATED = {
    "NanogptLoss": "1.88",  # nanoGPT's README, the run on a CPU
    "AimTraining": "1.2",
    "AimParity": "10%",
}


@functools.cache
def _sobol(text: str) -> tuple[list[Any], int, int, float]:
    """(indices of each knob, runs, tokens of a run, share of the variance of unseen runs that is explained), from the
    rows as one text: it takes seconds, and the same rows are asked for many times."""
    import numpy as np

    from juliagpt_jax.study.sobol import GaussianProcess, surrogate_indices

    study = runpy.run_path(str(ROOT / "experiments" / "sobol" / "indices.py"))
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


def same(results: Results, *whats: str) -> list[dict[str, Any]]:
    """The tensors of the comparison with PyTorch from the same weights, of these kinds; without any, all."""
    rows = PARITY.values(results, {}, "same")[0]
    return [row for row in rows if not whats or row["what"] in whats]


def millionths(results: Results, *whats: str) -> str:
    """The largest difference among these tensors, of the tensor's norm."""
    return f"{max(row['difference'] for row in same(results, *whats)) * 1e6:.2g}"


def parity_ratio(results: Results, arm: str) -> dict[str, float]:
    """JAX's perplexity over that of an arm in PyTorch, trained separately: mean, low and high."""
    return PARITY.values(results, {}, "trained")[0]["ratios"][arm]


def parity_shown(arm: str, form: str) -> Statistic:
    """The same, as a text."""
    return lambda results: "{:{f}} [{:{f}}, {:{f}}]".format(
        *(parity_ratio(results, arm)[key] for key in ("mean", "low", "high")), f=form
    )


def parity_verdict(results: Results, arm: str) -> str:
    """What the page of the comparison says of it."""
    return parity_page.verdict(parity_page.gaps(PARITY.values(results, {}, "trained")[0]["rows"])[arm])


def within(ratio: dict[str, float], share: float) -> bool:
    """Whether an interval around 1 leaves this share of it at most."""
    return 1 - share <= ratio["low"] and ratio["high"] <= 1 + share


NUMBERS: dict[str, Statistic] = {
    # parity with PyTorch
    "ParityParams": lambda results: f"{sum(math.prod(row['shape']) for row in same(results, 'gradient')):,}",
    "ParityTensors": lambda results: str(len(same(results))),
    "ParityGradient": lambda results: millionths(results, "logits", "gradient"),
    "ParityTen": lambda results: same(results)[-1]["what"].removesuffix(" steps"),
    "ParityMoved": lambda results: millionths(results, same(results)[-1]["what"]),
    "ParityRounding": lambda results: f"{max(row['difference'] / row['rounding'] for row in same(results)):.1f}",
    "ParitySteps": PARITY.value({}, "trained.steps", ",d"),
    "ParitySeeds": PARITY.value({}, "trained.ratios.torch.seeds"),
    "ParityGiven": parity_shown("torch given", ".6f"),
    "ParityOwn": parity_shown("torch", ".3f"),
    "ParityWithin": lambda results: f"{parity_page.WITHIN:.1%}",
    "ParityNeeded": lambda results: re.findall(r"about ([\d,]+) seeds", parity_verdict(results, "torch"))[0],
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
    "ParityAgrees": (
        "every tensor agrees with PyTorch's within its tolerance",
        lambda results: all(row["agrees"] and row["difference"] <= row["tolerance"] for row in same(results)),
    ),
    "ParityGivenSame": (
        "trained separately from the same initial weights, the perplexities are the same within 0.5%",
        lambda results: within(parity_ratio(results, "torch given"), parity_page.WITHIN),
    ),
    "ParityOwnAim": (
        "from initial weights of their own, the perplexities are the same within 10%",
        lambda results: within(parity_ratio(results, "torch"), 0.1),
    ),
    "ParityOwnOpen": (
        "from initial weights of their own, the seeds leave open whether they are the same within 0.5%",
        lambda results: parity_verdict(results, "torch").startswith("open"),
    ),
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
