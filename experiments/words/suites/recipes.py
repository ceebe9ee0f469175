"""Few tokens, many epochs: what do documents in a new order, Muon, weight decay by epochs and dropout do?

Command:   python -m juliagpt_jax.prepare --source=wikitext2 --out=data/wikitext2
           python experiments/words/prepare.py --source=data/wikitext2 --out=data/words/tenth
           python -m juliagpt_jax.tokenize --source=data/words/tenth --vocab=2048 --unk --out=data/words/bpe_2k
           python -m juliagpt_jax.ablate --suite=experiments/words/suites/recipes.py \
               --out=experiments/words/results/recipes
Hardware:  an H200 (--together --jobs=8); the arms with dropout have not run yet
Scale:     a tenth of WikiText-2's training text, 1M parameters, about 12 epochs; measured on another part of the
           training text

The arms are steps on one way: each group has all of those before it. Weight decay is tau in epochs, the time over
which the weights average; the usual 0.1 of the baseline is one of many epochs, which a run's plan prints.
"""

from juliagpt_jax.study.suite import Arm, Suite

# A tenth of WikiText-2's training articles, measured on those behind them: never on its validation text.
TEXT = {"data.path": "data/words/tenth", "data.tokenizer": "data/words/bpe_2k/tokenizer.json"}
# 1.05M parameters, three for each token of the text; about 12 epochs.
MODEL = {"model.width": 128, "model.layers": 4, "model.heads": 2, "model.context": 128, "model.ffn_mult": 8 / 3}
BUDGET = {"train.steps": 2_000, "train.batch_size": 16, "train.warmup": 100, "train.min_lr": 0.0}
QUIET = {"train.sample_every": 0, "train.eval_every": 200, "train.keep": 1, "mesh.data": 1}
COMMON = TEXT | MODEL | BUDGET | QUIET

ADAMW = {"train.lr": 2e-3, "train.beta2": 0.95}
MUON = {"train.optimizer": "muon", "train.lr": 0.02, "train.adam_lr": 0.02}
DOCUMENTS = {"data.windows": "documents"}
BED = MUON | DOCUMENTS | {"train.decay_tau": 1.0, "model.dropout": 0.1}  # what switches.py builds on

TAUS = (0.2, 0.5, 1.0, 2.0, 5.0)
DROPOUTS = (0.1, 0.2, 0.3)
TAU = 0.5  # of the arms with dropout: the best of those without


def get_suite(scale: str) -> Suite:
    muon = MUON | DOCUMENTS
    arms = {
        "adamw": Arm(ADAMW),
        "adamw, documents": Arm(ADAMW | DOCUMENTS),
        "muon, documents": Arm(muon),
        **{f"muon, tau {tau:g}": Arm(muon | {"train.decay_tau": tau}) for tau in TAUS},
        **{
            f"muon, tau {TAU:g}, dropout {share:g}": Arm(muon | {"train.decay_tau": TAU, "model.dropout": share})
            for share in DROPOUTS
        },
        **{
            f"muon, tau {TAU:g}, dropout {share:g} on branches": Arm(
                muon | {"train.decay_tau": TAU, "model.dropout": share, "model.dropout_on": "branches"}
            )
            for share in DROPOUTS
        },
    }
    return Suite(
        config="configs/micro.py",
        common=COMMON,
        arms=arms,
        seeds=(11, 12, 13),
        baseline="adamw",
        measures=("step_s",),
    )
