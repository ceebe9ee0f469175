"""Which learning rate and damping K-FAC wants: one seed, kept apart from those of the study.

python -m juliagpt_jax.ablate --suite=experiments/optimizers/kfac_pilot.py --out=runs/kfac_pilot [--jobs=2]
"""

from juliagpt_jax.study.suite import Arm, Suite

KFAC = {"train.optimizer": "kfac", "train.adam_lr": 2e-3, "train.min_lr": 0.0, "train.weight_decay": 0.01}


def arm(lr: float, damping: float, kl: float = 1e-3, **more: object) -> Arm:
    named = {f"train.{name}": value for name, value in more.items()}
    return Arm(KFAC | {"train.lr": lr, "train.kfac_damping": damping, "train.kfac_kl": kl} | named)


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={"train.steps": 400, "train.sample_every": 0, "train.final_windows": 128, "train.eval_every": 400},
        arms={
            "adamw, lr 2e-3": Arm(),
            "adamw, lr 4e-3": Arm({"train.lr": 4e-3, "train.min_lr": 4e-4}),
            "lr 0.03, damping 1e-3": arm(0.03, 1e-3),
            "lr 0.1, damping 1e-3": arm(0.1, 1e-3),
            "lr 0.03, damping 1e-2": arm(0.03, 1e-2),
            "lr 0.1, damping 1e-2": arm(0.1, 1e-2),
            "lr 0.03, damping 1e-4": arm(0.03, 1e-4),
        },
        seeds=(7,),
        baseline="adamw, lr 2e-3",
    )
