"""One block of width 192, used recursively on two states, 6 evaluations: beside configs/ode_tiny.py, of the same cost.

Command:   python -m juliagpt_jax.main --config=configs/recursive_tiny.py --workdir=runs/recursive_tiny
Hardware:  two cores of a CPU
Time:      twice the FLOPs of configs/tiny.py; not measured yet
Result:    not measured yet; experiments/recursion has the comparison at equal FLOPs
"""

import ml_collections
from tiny import get_config as tiny_config


def get_config() -> ml_collections.ConfigDict:
    config = tiny_config()
    config.model.depth = "recursive"
    config.model.layers = 1
    config.model.recursive.inner = 2
    config.model.recursive.outer = 2
    return config
