"""What does each switch of the decoder do to a small model, at the baseline's parameters and budget?

python -m juliagpt_jax.ablate --suite=experiments/optimizers/suites/switches.py \
    --out=experiments/optimizers/results/switches --jobs=2

Nothing is tuned for a switch: the learning rate is the config's. relu2 has two matrices where SwiGLU has three, so its
hidden width is half as large again. The untied head has VOCABULARY x width parameters more.
"""

from juliagpt_jax.study.suite import Arm, Suite


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={"train.sample_every": 0},
        arms={
            "baseline": Arm(),
            "qk_norm": Arm({"model.qk_norm": True}),
            "relu2": Arm({"model.channel": "relu2", "model.ffn_mult": 6.0}),
            "softcap 15": Arm({"model.softcap": 15.0}),
            "zero_init": Arm({"model.zero_init": True}),
            "x0_skip": Arm({"model.x0_skip": True}),
            "untied head": Arm({"model.tie": False}),
        },
        seeds=(11, 12, 13),
        baseline="baseline",
    )
