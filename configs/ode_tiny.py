"""One block of width 192 as the field of an ODE, 6 evaluations: a third of the blocks of configs/tiny.py, twice the
compute.

Command:   python -m juliagpt_jax.main --config=configs/ode_tiny.py --workdir=runs/ode_tiny
Hardware:  two cores of an Intel Xeon with AVX-512
Time:      twice the FLOPs of tiny, which takes 170 s; 1,333 s beside much other work
Result:    1.372 bits per character of validation text (seed 42), 600,192 parameters; tiny has the same with 1,778,304
"""

import ml_collections
from tiny import get_config as tiny_config


def get_config() -> ml_collections.ConfigDict:
    config = tiny_config()
    config.model.depth = "ode"
    config.model.layers = 1
    config.model.ode.solver = "midpoint"
    config.model.ode.steps = 3
    return config
