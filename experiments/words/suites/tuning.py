"""Learning rates for recipes.py and switches.py, on a seed that they do not report.

python -m juliagpt_jax.ablate --suite=experiments/words/suites/tuning.py \
    --out=experiments/words/results/tuning [--jobs=2]

See recipes.py for how the text is made.
"""

from recipes import ADAMW, COMMON, DOCUMENTS, MUON

from juliagpt_jax.study.suite import Arm, Suite


def get_suite(scale: str) -> Suite:
    adamw = {f"adamw, lr {lr:g}": Arm(ADAMW | {"train.lr": lr}) for lr in (1e-3, 2e-3, 4e-3)}
    muon = {
        f"muon, lr {lr:g}, adam_lr {adam_lr:g}": Arm(MUON | {"train.lr": lr, "train.adam_lr": adam_lr})
        for lr, adam_lr in ((0.01, 0.02), (0.02, 0.02), (0.04, 0.02), (0.02, 0.01), (0.02, 0.04))
    }
    return Suite(
        config="configs/micro.py",
        common=COMMON | DOCUMENTS | {"model.dropout": 0.1},
        arms=adamw | muon,
        seeds=(7,),
        baseline="adamw, lr 0.002",
    )
