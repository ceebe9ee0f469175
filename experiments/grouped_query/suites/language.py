"""What does the loss lose where heads share keys and values, at equal parameters and tokens?

python -m juliagpt_jax.ablate --suite=experiments/grouped_query/suites/language.py \
    --out=experiments/grouped_query/results/language [--jobs=2]

Four heads of 24 channels. Keys and values of K of H heads save 2 (1 - K / H) D^2 parameters a layer, and SwiGLU has
3 D^2 for each width of `ffn_mult`: so 2/3 (1 - K / H) more of it has them again. `spared` leaves them out.
"""

from juliagpt_jax.study.suite import Arm, Suite

HEADS = 4


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common={"model.heads": HEADS, "train.sample_every": 0},
        arms={
            "4 of 4": Arm(),
            "2 of 4": Arm(grouped(2)),
            "1 of 4": Arm(grouped(1)),
            "1 of 4, spared": Arm({"model.kv_heads": 1}),
        },
        seeds=(11, 12, 13),
        baseline="4 of 4",
        measures=("step_s", "step_memory_bytes", "chars_per_s", "model_bytes"),
    )


def grouped(kv_heads: int, ffn_mult: float = 4.0) -> dict[str, float]:
    """Return the changes for so many heads of keys and values, with the parameters of as many as there are heads."""
    return {"model.kv_heads": kv_heads, "model.ffn_mult": ffn_mult + 2 / 3 * (1 - kv_heads / HEADS)}
