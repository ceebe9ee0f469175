"""Does a hybrid of the delta rule and attention, 3:1, model books at a context of 1,024 as well as attention?

python -m juliagpt_jax.prepare --source=classics --out=data/classics
python -m juliagpt_jax.ablate --suite=experiments/kda/suites/language.py \
    --out=experiments/kda/results/language [--jobs=2]

At a context of 128 experiments/ablation has the same arms. Four layers each, so that the hybrid has its ratio, and the
FLOPs of all arms the same; a step has 2,048 characters at each context.
"""

from juliagpt_jax.study.suite import Arm, Suite

HYBRID = {"model.mixer": "kda kda kda attention"}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={
            "data.path": "data/classics",
            "model.layers": 4,
            "model.context": 1024,
            "train.batch_size": 2,
            "train.sample_every": 0,
            "train.lr": 1e-3,
            "train.min_lr": 1e-4,
            "train.final_windows": 200,
        },
        arms={
            "attention": Arm(),
            "attention, context 256": Arm({"model.context": 256, "train.batch_size": 8}),
            "kda": Arm({"model.mixer": "kda"}),
            "kda 3:1": Arm(HYBRID),
            "kda 3:1, no positions": Arm(HYBRID | {"model.positions": "none"}),
        },
        seeds=(11, 12, 13),
        baseline="attention",
        budget=("flops", 8e12),
    )
