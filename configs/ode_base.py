"""The baseline's width in one block, as the field of an ODE: 6 x 384 with shared weights, context 256.

Command:   python -m juliagpt_jax.main --config=configs/ode_base.py --workdir=runs/ode_base
Hardware:  meant for a GPU, not run on one yet; 2,380,032 parameters on the schoolroom corpus
Time:      two CPU cores would need about 10 hours (7.5e+15 FLOPs, at the rate measured in experiments/speed)
Result:    not measured yet
"""

import ml_collections
from base import get_config as base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.model.depth = "ode"
    config.model.layers = 1
    config.model.ode.solver = "midpoint"  # 3 steps of two evaluations: the compute of base.py
    config.model.ode.steps = 3
    return config
