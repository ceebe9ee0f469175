"""Characters or byte-level BPE? In bits per character, which all have in common, at equal training FLOPs.

Command:   python experiments/vocabulary/bpe.py --data=data/classics --out=data/vocabulary
           python -m juliagpt_jax.ablate --suite=experiments/vocabulary/suites/characters_or_bpe.py \
               --out=experiments/vocabulary/results/characters_or_bpe
           data/classics is what prepare writes of the classics
Hardware:  one core of an Intel Xeon with AVX-512, about 80 s a cell

Blocks and context (in tokens) are the same for all, so a larger vocabulary has more parameters in its embedding, sees
more characters and reads more text for its FLOPs. "narrow" gives the blocks' width back until all parameters are as
many as the characters' model has.
"""

from juliagpt_jax.study.suite import Arm, Suite


def get_suite(scale: str) -> Suite:
    bpe = lambda size, **model: Arm(
        {
            "data.tokenizer": f"data/vocabulary/bpe_{size}.json",
            **{f"model.{key}": value for key, value in model.items()},
        }
    )
    # The whole validation text is scored: as many windows of larger tokens would be another text.
    common = {"data.path": "data/classics", "train.sample_every": 0, "train.keep": 1}
    if scale == "micro":
        common |= {"mesh.data": 1}
    arms = {"characters": Arm(), "bpe 1024": bpe(1024), "bpe 8192": bpe(8192)}
    if scale == "micro":
        arms["bpe 1024, narrow"] = bpe(1024, width=78, heads=3)
    return Suite(
        config=f"configs/{scale}.py",
        common=common,
        arms=arms,
        seeds=(11, 12, 13),
        baseline="characters",
        budget=("flops", 3e12 if scale == "micro" else 7.5e15),
    )
