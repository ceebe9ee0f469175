"""At least a fifth fewer parameters at no more than 5% higher perplexity? Fresh seeds for what search.py found.

python -m juliagpt_jax.ablate --suite=experiments/monarch/suites/mixers.py \
    --out=experiments/monarch/results/mixers [--jobs=2]
"""

from juliagpt_jax.study.suite import Arm, Suite

MONARCH = {"model.mixer": "monarch"}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={"train.sample_every": 0},
        arms={
            "baseline": Arm(),
            "monarch, channel of 4 blocks": Arm(MONARCH | {"model.channel": "monarch", "model.monarch.blocks": 4}),
            "mixer: monarch_heads": Arm({"model.mixer": "monarch_heads"}),
            "mixer: monarch": Arm(MONARCH),
            # the plain way to as few parameters: fewer hidden channels
            "monarch, ffn_mult 1.25": Arm(MONARCH | {"model.ffn_mult": 1.25}),
        },
        seeds=(11, 12, 13),
        baseline="baseline",
    )
