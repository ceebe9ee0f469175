"""Does the best single technique hold at six times the parameters, whichever rate both train at?

python -m juliagpt_jax.ablate --suite=experiments/techniques/larger.py --scale=tiny --jobs=2 \
    --out=experiments/techniques/larger

The text and tokens of suite.py. Both mixers at two rates, the config's and suite.py's, in place of tuning: what is said
of them must be so at each.
"""

from suite import RATE

from juliagpt_jax.study.suite import Arm, Suite

RATES = (1e-3, RATE)


def get_suite(scale: str) -> Suite:
    common = {"data.path": "data/classics", "train.min_lr": 0.0, "train.sample_every": 0, "train.keep": 1}
    common |= {"train.steps": 1_000, "train.eval_every": 100, "train.final_windows": 1_000, "mesh.data": 1}
    return Suite(
        config=f"configs/{scale}.py",
        common=common,
        arms={
            f"{mixer}, lr {rate:g}": Arm({"model.mixer": mixer, "train.lr": rate})
            for rate in RATES
            for mixer in ("attention", "monarch_heads")
        },
        seeds=(11, 12, 13),
        baseline=f"attention, lr {RATES[0]:g}",
        measures=("step_s", "step_memory_bytes", "chars_per_s", "model_bytes"),
    )
