"""Every mixer and channel, and the switches beside them, on the tokens of WikiText-2 at equal FLOPs.

python -m juliagpt_jax.prepare --source=wikitext2 --out=data/wikitext2
python -m juliagpt_jax.tokenize --source=data/wikitext2 --vocab=4096 --unk --out=data/wikitext2_4k
python -m juliagpt_jax.ablate --suite=experiments/ablation/suites/words.py \
    --out=experiments/ablation/results/words [--jobs=2]

The arms are those of schoolroom.py. At this width a vocabulary of 16,000 would leave the layers a tenth of the FLOPs;
4,096 tokens leave them two fifths. The budget is that of about 700 steps of the baseline.
"""

from schoolroom import BUDGET, COMMON, MEASURES, arms

from juliagpt_jax.study.suite import Suite

DATA = {"data.path": "data/wikitext2", "data.tokenizer": "data/wikitext2_4k/tokenizer.json"}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common=COMMON | DATA | {"train.final_windows": 1_000},
        arms=arms(),
        seeds=(11, 12, 13),
        baseline="baseline",
        budget=BUDGET,
        measures=(*MEASURES, "word_perplexity"),
    )
