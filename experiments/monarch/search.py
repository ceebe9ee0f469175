"""Which shape of Monarch Mixer to confirm: one seed an arm, equal steps. The verdict needs suite.py's fresh seeds.

python -m juliagpt_jax.ablate --suite=experiments/monarch/search.py --out=experiments/monarch/search [--jobs=2]
"""

from juliagpt_jax.study.suite import Arm, Suite

HYBRID = {"model.mixer": "monarch attention"}
BLOCKS_2 = {"model.channel": "monarch", "model.monarch_blocks": 2}
BLOCKS_4 = {"model.channel": "monarch", "model.monarch_blocks": 4}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={"train.sample_every": 0},
        arms={
            "baseline": Arm(),
            # which part to replace
            "mixer: monarch": Arm({"model.mixer": "monarch"}),
            "mixer: monarch_heads": Arm({"model.mixer": "monarch_heads"}),
            "mixer: monarch attention": Arm(HYBRID),
            "channel: monarch, 2 blocks": Arm(BLOCKS_2),
            "hybrid, channel of 2 blocks": Arm(HYBRID | BLOCKS_2),
            # the plain way to fewer parameters
            "dense, ffn_mult 2": Arm({"model.ffn_mult": 2.0}),
            "hybrid, ffn_mult 2": Arm(HYBRID | {"model.ffn_mult": 2.0}),
            "mixer: attention monarch": Arm({"model.mixer": "attention monarch"}),
            "mixer: monarch_heads attention": Arm({"model.mixer": "monarch_heads attention"}),
            "hybrid, channel of 4 blocks": Arm(HYBRID | BLOCKS_4),
            "channel: monarch, 4 blocks": Arm(BLOCKS_4),
            "linear: monarch, 2 blocks": Arm({"model.linear": "monarch", "model.monarch_blocks": 2}),
        },
        seeds=(1,),
        baseline="baseline",
    )
