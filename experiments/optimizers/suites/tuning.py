"""Learning rates for steps.py: the same budget, on a seed that it does not report.

python -m juliagpt_jax.ablate --suite=experiments/optimizers/suites/tuning.py \
    --out=experiments/optimizers/results/tuning [--jobs=2]
"""

from juliagpt_jax.study.suite import Arm, Suite

BUDGET = {"train.steps": 500, "train.min_lr": 0.0, "train.eval_every": 20, "train.sample_every": 0}
RATE = 4e-3  # AdamW's best, and where the rates of embedding and head begin


def kfac(lr: float, damping: float, kl: float, adam_lr: float = RATE) -> dict[str, float]:
    return {"lr": lr, "adam_lr": adam_lr, "kfac.damping": damping, "kfac.kl": kl}


# Around what first trials on this seed found; AdamW gets its other knobs turned too, as K-FAC has more of them.
GRID = {
    "adamw": [
        *({"lr": lr} for lr in (2e-3, RATE, 8e-3)),
        *(
            {"lr": RATE} | other
            for other in ({"beta2": 0.95}, {"beta2": 0.995}, {"warmup": 25}, {"weight_decay": 0.01})
        ),
        *(
            {"lr": lr, "adam_lr": adam_lr}
            for lr, adam_lr in (
                (RATE, 1e-2),
                (RATE, 2e-2),
                (RATE, 4e-2),
                (8e-3, 2e-2),
                (RATE, 8e-2),
                (2e-3, 4e-2),
                (RATE, 0.16),
            )
        ),
        {"lr": RATE, "adam_lr": 8e-2, "beta2": 0.995},
    ],
    "muon": [
        {"lr": lr, "adam_lr": adam_lr}
        for lr, adam_lr in (
            (0.01, RATE),
            (0.02, RATE),
            (0.04, RATE),
            (0.02, 1e-2),
            (0.02, 2e-2),
            (0.03, 2e-2),
            (0.02, 4e-2),
            (0.02, 8e-2),
        )
    ],
    "soap": [
        {"lr": lr, "adam_lr": adam_lr}
        for lr, adam_lr in (
            (2e-3, RATE),
            (RATE, RATE),
            (8e-3, RATE),
            (RATE, 1e-2),
            (8e-3, 1e-2),
            (8e-3, 2e-2),
            (8e-3, 4e-2),
            (8e-3, 8e-2),
        )
    ],
    "kfac": [
        kfac(0.1, 1e-3, 1e-3),
        kfac(0.1, 1e-4, 1e-3),
        kfac(0.03, 1e-4, 1e-3),
        kfac(0.03, 1e-5, 1e-3),
        kfac(0.1, 1e-3, 1e-2),
        kfac(0.1, 1e-4, 1e-2),
        kfac(0.03, 1e-4, 1e-3, 1e-2),
        kfac(0.03, 1e-4, 1e-3, 2e-2),
    ],
}


def arm(name: str, knobs: dict[str, float]) -> Arm:
    """An optimizer's config. Decay is lr x weight_decay a step, so K-FAC's large lr wants a small one."""
    slow = {"train.weight_decay": 0.01} if name == "kfac" else {}
    return Arm({"train.optimizer": name, **{f"train.{knob}": value for knob, value in knobs.items()}, **slow})


def get_suite(scale: str) -> Suite:
    # Arms are named as the results are: "kfac_damping", of before the knobs had groups.
    label = lambda knobs: ", ".join(f"{knob.replace('.', '_')} {value:g}" for knob, value in knobs.items())
    return Suite(
        config=f"configs/{scale}.py",
        common=BUDGET | {"train.final_windows": 400},
        arms={f"{name}, {label(knobs)}": arm(name, knobs) for name in GRID for knobs in GRID[name]},
        seeds=(7,),
        baseline="adamw, lr 0.004",
    )
