"""Byte-level BPE tokenizers of several sizes, trained on a corpus's training text, for characters_or_bpe.py.

python experiments/vocabulary/bpe.py --data=data/classics --out=data/vocabulary [--sizes=1024,8192]
"""

import argparse
import json
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from juliagpt_jax.data import corpus, tokenizer
from juliagpt_jax.ground import config_file

ROOT = Path(__file__).parents[2]


def main() -> None:
    flags = argparse.ArgumentParser(description="Train BPE tokenizers.")
    flags.add_argument("--data", required=True, metavar="PATH", help="as config.data.path")
    flags.add_argument("--out", type=Path, required=True, metavar="DIR")
    flags.add_argument("--sizes", default="1024,8192", metavar="N,N,...")
    options = flags.parse_args()
    settings = config_file.load(str(ROOT / "configs" / "micro.py"), [f"data.path={options.data}"])
    text = corpus.load(settings.data, settings.model.context)
    lines = text.tokenizer.decode(text.train).splitlines(keepends=True)
    options.out.mkdir(parents=True, exist_ok=True)
    for size in map(int, options.sizes.split(",")):
        bpe = tokenizers.Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        bpe.train_from_iterator(
            lines, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
        )
        path = options.out / f"bpe_{size}.json"
        tokenizer.save(tokenizer.from_huggingface(json.loads(bpe.to_str()), bpe.get_vocab_size(), None), path)
        ids = sum(len(e.ids) for e in bpe.encode_batch(lines[:2000]))
        print(f"{path}: {bpe.get_vocab_size():,} tokens, {sum(map(len, lines[:2000])) / ids:.2f} characters each")


if __name__ == "__main__":
    main()
