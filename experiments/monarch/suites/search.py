"""Which shape of Monarch Mixer to confirm: one seed an arm, equal steps. The verdict is mixers.py's, on fresh seeds.

python -m juliagpt_jax.ablate --suite=experiments/monarch/suites/search.py --out=experiments/monarch/results/search
"""

from juliagpt_jax.study.suite import Arm, Suite

MONARCH = {"model.mixer": "monarch"}
BLOCKS_2 = {"model.channel": "monarch", "model.monarch.blocks": 2}
BLOCKS_4 = {"model.channel": "monarch", "model.monarch.blocks": 4}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={"train.sample_every": 0},
        arms={
            "baseline": Arm(),
            "mixer: monarch": Arm(MONARCH),
            "monarch, channel of 2 blocks": Arm(MONARCH | BLOCKS_2),
            "monarch, channel of 4 blocks": Arm(MONARCH | BLOCKS_4),
            "mixer: monarch attention": Arm({"model.mixer": "monarch attention"}),
            "mixer: monarch_heads": Arm({"model.mixer": "monarch_heads"}),
            # what the long filter is worth: without it the gates and the short convolution remain
            "monarch, filter of one token": Arm(
                MONARCH | {"model.monarch.filter_fast": 1e-3, "model.monarch.filter_slow": 1e-3}
            ),
            # the plain way to fewer parameters
            "attention, ffn_mult 2": Arm({"model.ffn_mult": 2.0}),
            "attention, channel of 2 blocks": Arm(BLOCKS_2),
            "monarch, ffn_mult 2": Arm(MONARCH | {"model.ffn_mult": 2.0}),
            "monarch, all linears of 2 blocks": Arm(MONARCH | {"model.linear": "monarch", "model.monarch.blocks": 2}),
        },
        seeds=(1,),
        baseline="baseline",
    )
