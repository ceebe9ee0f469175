"""The best stack: do the switches that helped AdamW still help the best optimizer, and how far is it all from AdamW?

python -m juliagpt_jax.ablate --suite=experiments/optimizers/suites/stack.py --out=experiments/optimizers/results/stack

The optimizers are those of steps.py; the switches are the three that did best in switches.py, one upon the other.
Fresh seeds, since those of switches.py chose.
"""

from steps import ARMS, COMMON

from juliagpt_jax.study.suite import Arm, Suite

STACK = ("qk_norm", "zero_init", "x0_skip")


def get_suite(scale: str) -> Suite:
    switches = lambda n: {f"model.{name}": True for name in STACK[:n]}
    soap = {f"soap{''.join(f' + {name}' for name in STACK[:n])}": Arm(ARMS["soap"] | switches(n)) for n in range(4)}
    return Suite(
        config=f"configs/{scale}.py",
        common=COMMON,
        arms={"adamw": Arm(ARMS["adamw"]), f"adamw + {STACK[0]}": Arm(ARMS["adamw"] | switches(1))} | soap,
        seeds=(21, 22, 23),
        baseline="adamw",
        measures=("step_s",),
    )
