"""What does a phase of the corpus teach about the others? Trained on one or on all, scored on each: a transfer matrix.

Command:   python -m juliagpt_jax.ablate --suite=experiments/corpus/suites/phases.py \
    --out=experiments/corpus/results/phases
           data/classics is what prepare writes of the classics
Hardware:  one core of an Intel Xeon with AVX-512, about 40 s a cell

The same steps for all: an arm of one phase reads a larger part of it.
"""

from juliagpt_jax.study.suite import Arm, Suite

PHASES = ("trivium", "quadrivium", "philosophy")


def get_suite(scale: str) -> Suite:
    common = {"data.path": "data/classics", "train.sample_every": 0, "train.keep": 1}
    if scale == "micro":
        common |= {"train.steps": 1_000, "train.final_windows": 1_000, "mesh.data": 1}
    return Suite(
        config=f"configs/{scale}.py",
        common=common,
        arms={"all": Arm(), **{phase: Arm({"data.filter": f"phase in {phase}"}) for phase in PHASES}},
        seeds=(11, 12, 13),
        baseline="all",
        measures=tuple(f"phases.{phase}.perplexity" for phase in PHASES),
    )
