"""Is a part of the corpus, picked by scores of a first pass, as good as the whole at the same number of steps?

Command:   python -m juliagpt_jax.ablate --suite=experiments/coreset/suites/whole_corpus.py \
               --out=experiments/coreset/results/whole_corpus [--scale=micro|base] [--jobs=2]
Needs:     data/classics, as prepare writes it
Time:      about a minute a cell of micro on one core of an Intel Xeon with AVX-512; 36 cells

The first pass is the run on the whole corpus with the same seed. `small_text.py`, in the folder above, asks the
same of so little text that it runs short.
"""

from juliagpt_jax.study.suite import Arm, Suite

SCORED = "random 60%"  # the arm that also scores the corpus, for all others
SCORES = ("loss", "el2n", "grad_norm")


def get_suite(scale: str) -> Suite:
    arms = {
        "full": Arm(),
        SCORED: Arm(
            {"data.keep": "random 0.6"},
            before=("juliagpt_jax.score --workdir={run[full]} --out={cell}/scores.npz --what=" + ",".join(SCORES),),
        ),
        "random 30%": Arm({"data.keep": "random 0.3"}),
    }
    for name in SCORES:
        for which in ("top", "middle", "bottom"):
            changes = {"data.scores": f"{{run[{SCORED}]}}/../scores.npz", "data.keep": f"{which} 0.6 of {name}"}
            arms[f"{which} 60% by {name}"] = Arm(changes)
    return Suite(
        config=f"configs/{scale}.py",
        common={"data.path": "data/classics", "train.final_windows": 2_000, "train.sample_every": 0},
        arms=arms,
        seeds=(1, 2, 3),
        baseline="full",
    )
