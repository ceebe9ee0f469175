"""Does a hybrid of the delta rule and attention, 3:1, model language as well as attention at the same FLOPs?

python -m juliagpt_jax.ablate --suite=experiments/kda/suites/language.py \
    --out=experiments/kda/results/language [--jobs=2]

Four layers each, so that the hybrid has its ratio. The budget is that of 1,000 steps of four layers of attention at the
shape of configs/micro.py.
"""

from juliagpt_jax.study.suite import Arm, Suite

HYBRID = "{} {} {} attention"


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={"model.layers": 4, "train.sample_every": 0, "train.lr": 1e-3, "train.min_lr": 1e-4},
        arms={
            "attention": Arm(),
            "attention without positions": Arm({"model.positions": "none"}),
            "kda": Arm({"model.mixer": "kda"}),
            "gated_deltanet": Arm({"model.mixer": "gated_deltanet"}),
            "kda 3:1": Arm({"model.mixer": HYBRID.format(*["kda"] * 3), "model.positions": "none"}),
            "kda 3:1, rotary": Arm({"model.mixer": HYBRID.format(*["kda"] * 3)}),
            "gated_deltanet 3:1": Arm(
                {"model.mixer": HYBRID.format(*["gated_deltanet"] * 3), "model.positions": "none"}
            ),
        },
        seeds=(11, 12, 13),
        baseline="attention",
        budget=("flops", 4.6e12),
    )
