"""Every technique beside the same baseline, on real text, at equal tokens: what does each do to perplexity, and what
does it cost in time, memory, characters a second and bytes?

Command:   python -m juliagpt_jax.ablate --suite=experiments/techniques/suites/all.py \
               --out=experiments/techniques/results/all --keep
           python -m juliagpt_jax.analyse --seeds=2 --out=experiments/techniques/results/samples \
               $(printf -- "--workdir=%s " experiments/techniques/results/all/cells/*/11/run)
           data/classics is what prepare writes of the classics
Hardware:  one core of an Intel Xeon with AVX-512, 35 to 150 s a cell
Scale:     micro: 1,000 steps, 1,024,000 characters. tiny, base: the whole recipe, base on a GPU.

The baseline is AdamW at the rate that was best for it in experiments/ternary/suites/tuning.py; optimizers and ternary
weights have the rates that were best for them in their own tuning, all on another corpus and another seed. What changes
the model's shape, or the order or the choice of the data, has the baseline's rates and was tuned for nothing.
"""

import runpy
from pathlib import Path

from juliagpt_jax.study.suite import Arm, Suite

RATE = 4e-3
TUNED = runpy.run_path(str(Path(__file__).parents[2] / "optimizers" / "suites" / "steps.py"))["ARMS"]
OPTIMIZERS = {"adamw, two rates": TUNED["adamw"], **{name: TUNED[name] for name in ("muon", "soap", "kfac")}}
SWITCHES = {"model.qk_norm": True, "model.zero_init": True}
ODE = {"model.depth": "ode", "model.layers": 1, "model.ode.steps": 4, "model.ode.speed": 4.0}
TERNARY = {"model.linear": "ternary", "train.lr": 8e-3}
WEIGHTS = "trivium:0.40, quadrivium:0.35, philosophy:0.25"
# By scale: twice as deep with the baseline's parameters; an ODE, which is one block, with them; and twice as wide.
SHAPES = {
    "micro": ({"layers": 4, "width": 68, "heads": 2}, {"width": 136, "heads": 4}, {"width": 192, "heads": 6}),
    "tiny": ({"layers": 6, "width": 136, "heads": 2}, {"width": 336, "heads": 4}, {"width": 384, "heads": 6}),
    "base": ({"layers": 12, "width": 272, "heads": 2}, {"width": 944, "heads": 8}, {"width": 768, "heads": 6}),
}


def get_suite(scale: str) -> Suite:
    deep, ode, wide = ({f"model.{key}": value for key, value in shape.items()} for shape in SHAPES[scale])
    common = {"data.path": "data/classics", "train.lr": RATE, "train.min_lr": 0.0, "train.sample_every": 0}
    common |= {"train.keep": 1}
    if scale != "base":
        common |= {"train.final_windows": 1_000, "mesh.data": 1}
    mixer = lambda name, **more: Arm({"model.mixer": name, **{f"model.{k}": v for k, v in more.items()}})
    arms = {
        "baseline": Arm(),
        **{name: Arm(changes) for name, changes in OPTIMIZERS.items()},
        "qk_norm, zero_init": Arm(SWITCHES),
        "monarch": mixer("monarch"),
        "monarch, its channel too": mixer("monarch", channel="monarch", **{"monarch.blocks": 4}),
        "monarch_heads": mixer("monarch_heads"),
        "ode, equal parameters": Arm(ODE | ode),
        "twice as deep": Arm(deep),
        "subln": Arm({"model.linear": "subln"}),
        "ternary": Arm(TERNARY),
        "ternary, twice as wide": Arm(TERNARY | wide | {"train.lr": 2e-3}),
        "easy first": Arm(
            {"data.order": "easy_first", "data.curriculum.pacing": "root", "data.curriculum.pacing_start": 0.2}
        ),
        "phase weights": Arm({"data.phase_weights": WEIGHTS}),
        "best 60% by quality": Arm({"data.keep": "top 0.6 of quality"}),
        "bigram penalty": Arm({"train.ngram.kind": "bigram", "train.ngram.weight": 0.1}),
        "stack": Arm(OPTIMIZERS["soap"] | SWITCHES),
        "stack with monarch_heads": Arm(OPTIMIZERS["soap"] | {"model.zero_init": True, "model.mixer": "monarch_heads"}),
    }
    return Suite(
        config=f"configs/{scale}.py",
        common=common,
        arms=arms,
        seeds=(11, 12, 13),
        baseline="baseline",
        measures=("step_s", "step_memory_bytes", "chars_per_s", "model_bytes"),
    )
