"""What does a longer context buy, at equal tokens? Every step has as many tokens, in fewer and longer windows.

python -m juliagpt_jax.ablate --suite=experiments/shape/suites/context.py --out=experiments/shape/results/context

Each arm is scored with its own context: every character sees half of it to all of it.
"""

from juliagpt_jax.study.suite import Arm, Suite

CONTEXTS = {"micro": (32, 64, 128, 256), "base": (64, 128, 256, 512)}
OWN = {"micro": (128, 8), "base": (256, 64)}  # context and batch of the scale's config


def get_suite(scale: str) -> Suite:
    own, batch = OWN[scale]
    return Suite(
        config=f"configs/{scale}.py",
        common={"train.sample_every": 0},
        arms={f"context {n}": Arm({"model.context": n, "train.batch_size": own * batch // n}) for n in CONTEXTS[scale]},
        seeds=(11, 12, 13),
        baseline=f"context {own}",
        budget=("tokens", 1e6 if scale == "micro" else 82e6),
    )
