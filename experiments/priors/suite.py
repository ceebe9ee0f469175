"""Does a table of character counts, as a prior beside the loss, save steps?

python -m juliagpt_jax.ablate --suite=experiments/priors/suite.py --out=experiments/priors
"""

from juliagpt_jax.study.suite import Arm, Suite


def prior(name: str, weight: float, steps: int) -> Arm:
    return Arm({"train.prior": name, "train.prior_weight": weight, "train.prior_steps": steps})


def get_suite(scale: str) -> Suite:
    early = 200  # the counts are learned by then: a bigram's loss is passed after about 150 steps
    return Suite(
        config=f"configs/{scale}.py",
        common={
            "data.path": "data/classics",
            "train.steps": 800,
            "train.eval_every": 50,
            "train.sample_every": 0,
            "train.final_windows": 2_000,
        },
        arms={
            "baseline": Arm(),
            "unigram 0.3, early": prior("unigram", 0.3, early),
            "zipf 0.3, early": prior("zipf", 0.3, early),
            "entropy 0.3, early": prior("entropy", 0.3, early),
            "bigram 0.3, early": prior("bigram", 0.3, early),
            "bigram 1.0, early": prior("bigram", 1.0, early),
            "bigram 0.1, throughout": prior("bigram", 0.1, 0),
        },
        seeds=(1, 2, 3),
        baseline="baseline",
    )
