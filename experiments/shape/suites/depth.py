"""Deep or wide, at equal parameters and equal training FLOPs? And what does a longer context buy, at equal tokens?

python -m juliagpt_jax.ablate --suite=experiments/shape/suites/depth.py --out=experiments/shape/results/depth
python -m juliagpt_jax.ablate --suite=experiments/shape/suites/context.py --out=experiments/shape/results/context

Here: one block's width follows from the number of blocks, so that all have the parameters of the scale's own shape, to
2%. Every arm spends the baseline's FLOPs; the learning rate is the config's for all, tuned for none.
"""

from juliagpt_jax.study.suite import Arm, Suite

# layers, width, heads of 32 to 36 channels (micro) or 128 (base), and its tokens
SHAPES = {
    "micro": ([(1, 136, 4), (2, 96, 3), (4, 68, 2), (8, 48, 1)], 3e12),
    "base": ([(3, 544, 4), (6, 384, 3), (12, 272, 2), (24, 192, 1)], 7.5e15),
}
BASELINE = {"micro": "2 x 96", "base": "6 x 384"}


def get_suite(scale: str) -> Suite:
    shapes, flops = SHAPES[scale]
    return Suite(
        config=f"configs/{scale}.py",
        common={"train.sample_every": 0},
        arms={
            f"{layers} x {width}": Arm({"model.layers": layers, "model.width": width, "model.heads": heads})
            for layers, width, heads in shapes
        },
        seeds=(11, 12, 13),
        baseline=BASELINE[scale],
        budget=("flops", flops),
    )
