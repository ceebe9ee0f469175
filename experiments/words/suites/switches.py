"""Few tokens, many epochs: averages, cycles, skips, gates, decay schedules and distillation, each beside one recipe.

Command:   python -m juliagpt_jax.ablate --suite=experiments/words/suites/switches.py \
               --out=experiments/words/results/switches
           recipes.py says how the text is made
Hardware:  not run yet
Scale:     a tenth of WikiText-2's training text, 1M parameters, about 12 epochs; measured on another part of the
           training text

The baseline is Muon on documents in a new order each epoch, tau 1 epoch, dropout 0.1. An arm with an average of its
weights is compared by that average. An epoch is about 170 steps, so a cycle of 1/12 of the steps is one.
"""

from recipes import BED, COMMON

from juliagpt_jax.study.suite import Arm, Suite

HALF_LIVES = (0.1, 0.3, 1.0)
CYCLES = {"train.schedule": "cycles", "train.cycles.count": 4, "train.cycles.share": 4 / 12}
DISTIL = {"train.objective": "distil", "train.distil.alpha": 0.5, "train.distil.temperature": 1.2}


def get_suite(scale: str) -> Suite:
    arms = {
        "baseline": Arm(),
        **{f"ema, half-life {h:g}": Arm({"train.ema_half_life": h}, averaged=True) for h in HALF_LIVES},
        "tail": Arm({"train.tail": 0.2}, averaged=True),
        "cycle ends": Arm(CYCLES, averaged=True),
        "cycle ends, peak 0.3": Arm(CYCLES | {"train.cycles.peak": 0.3}, averaged=True),
        "x0_skip": Arm({"model.x0_skip": True}),
        "value embedding": Arm({"model.value_embedding": "x0"}),
        "value embedding, half": Arm({"model.value_embedding": "none x0"}),
        "head gate": Arm({"model.head_gate": True}),
        "unet": Arm({"model.unet": True}),
        "qk_norm, zero_init": Arm({"model.qk_norm": True, "model.zero_init": True}),
        "xavier": Arm({"model.init": "xavier"}),
        "decay to zero": Arm({"train.weight_decay_schedule": "linear"}),
        "decay through a valley": Arm({"train.weight_decay_schedule": "valley"}),
        "relu2": Arm({"model.channel": "relu2", "model.ffn_mult": 4.0}),
        "distilled from itself": Arm(DISTIL | {"train.distil.teacher": "{run[baseline]}"}),
        "distilled again": Arm(DISTIL | {"train.distil.teacher": "{run[distilled from itself]}"}),
    }
    return Suite(
        config="configs/micro.py",
        common=COMMON | BED,
        arms=arms,
        seeds=(11, 12, 13),
        baseline="baseline",
        measures=("step_s",),
    )
