"""The floor that a neural language model must beat on WikiText-2: modified Kneser-Ney n-grams on the same tokens.

python experiments/words/kneser_ney.py --data=FOLDER --out=experiments/words/results/kneser_ney/wikitext2
    [--vocab=16000] [--orders=2,3,4,5] [--sides=valid,test]

FOLDER has the official train.txt (or train.txt.gz), valid.txt and test.txt, with <unk>. Three kinds of tokens: "bpe", a
byte-level BPE of --vocab tokens learned from the training text, line by line, in which <unk> is one token together with
the blank before it, as `tokenize --unk` learns it; "bpe_apart", in which that blank is a token of its own; and "words",
the 33,278 words of the benchmark, each line end counted as one. Writes PREFIX.jsonl, a row for each kind, order and
side, and PREFIX.md, and prints the rows. Seconds are those of counting and of scoring; memory is that of the counted
arrays, and the peak of the process so far.
"""

import argparse
import gzip
import hashlib
import json
import math
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from juliagpt_jax.data import bpe as byte_pairs
from juliagpt_jax.data import counts
from juliagpt_jax.data.library import LibraryTokenizer
from juliagpt_jax.evaluation.protocol import UNKNOWN_WORD
from juliagpt_jax.inference.scoring import Score
from juliagpt_jax.study import kneser_ney

Encode = Callable[[str], np.ndarray]


def read(folder: Path, side: str) -> str:
    """Return the text of train, valid or test."""
    packed = folder / f"{side}.txt.gz"
    raw = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / f"{side}.txt").read_bytes()
    return raw.decode()


def lines(text: str) -> list[str]:
    """Return the lines with their ends: nothing is encoded over one."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def bpe(train: str, vocab: int) -> tuple[Encode, int]:
    """Learn the tokens of a run; return how a text becomes them, and how many different ones there are."""
    tokenizer = byte_pairs.train(lines(train), vocab, unk=True)
    return lambda text: tokenizer.encode_each(lines(text))[0], tokenizer.vocab_size


def bpe_apart(train: str, vocab: int) -> tuple[Encode, int]:
    """Learn tokens of which <unk> is one, and the blank before it another."""
    pieces = (piece for line in lines(train) for piece in line.split(UNKNOWN_WORD))
    content = byte_pairs.train(pieces, vocab - 1).content
    plain = {"id": vocab - 1, "content": UNKNOWN_WORD, "special": False, "normalized": False}
    content["added_tokens"].append(plain | {"single_word": False, "lstrip": False, "rstrip": False})
    tokenizer = LibraryTokenizer(content, vocab, None)
    return lambda text: tokenizer.encode_each(lines(text))[0], vocab


def words(train: str, vocab: int) -> tuple[Encode, int]:
    """Return how a text becomes words, each line end one of them, and how many different ones the training text has."""
    cut = lambda text: [word for line in lines(text) for word in (*line.split(), "\n")]
    known = {word: i for i, word in enumerate(sorted(set(cut(train))))}
    return lambda text: np.array([known[word] for word in cut(text)], np.int64), len(known)


KINDS = {"bpe": bpe, "bpe_apart": bpe_apart, "words": words}


def measure(kind: str, options: argparse.Namespace) -> list[dict]:
    """Return the rows of one kind of tokens."""
    train, rows = read(options.data, "train"), []
    encode, size = KINDS[kind](train, options.vocab)
    tokens, sides = encode(train), {side: read(options.data, side) for side in options.sides.split(",")}
    held = {side: encode(text) for side, text in sides.items()}
    for order in map(int, options.orders.split(",")):
        begun = time.perf_counter()
        model = kneser_ney.count(tokens, size, order)
        counted_s = time.perf_counter() - begun
        arrays = sum(part.nbytes for own in model.orders for part in vars(own).values())
        for side, text in sides.items():
            begun = time.perf_counter()
            nats = -np.log(model.probabilities(held[side]))
            score = Score(float(nats.mean()), len(nats), order, 1, counts.of(text))
            row = {"tokens": kind, "vocabulary": size, "order": order, "side": side} | score.to_dict()
            row |= {"unk": text.count(UNKNOWN_WORD), "text_sha256": hashlib.sha256(text.encode()).hexdigest()}
            row |= {"training_tokens": len(tokens), "discounts": [own.discounts[1:].tolist() for own in model.orders]}
            row |= {"count_s": counted_s, "score_s": time.perf_counter() - begun, "array_bytes": arrays}
            rows.append(row | {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def table(rows: list[dict]) -> str:
    """Return the rows as Markdown."""
    head = ["tokens", "order", "text", "token perplexity", "word perplexity", "bits per byte", "counting, s"]
    found = [[*head, "scoring, s", "arrays, MB", "peak, MB"], ["---"] * 10]
    for row in rows:
        assert math.isfinite(row["loss"])
        kind = f"{row['tokens']}, {row['vocabulary']:,}"
        numbers = [f"{row['perplexity']:.2f}", f"{row['word_perplexity']:.2f}", f"{row['bpb']:.4f}"]
        cost = [f"{row['count_s']:.1f}", f"{row['score_s']:.2f}"]
        memory = [f"{row['array_bytes'] / 1e6:.0f}", f"{row['peak_bytes'] / 1e6:.0f}"]
        found.append([kind, str(row["order"]), row["side"], *numbers, *cost, *memory])
    first = {(row["tokens"], row["side"]): row for row in rows}
    facts = [
        f"- {kind}, {side}: {row['scored_tokens']:,} tokens of {row['vocabulary']:,} different, "
        f"{row['scored_words']:,} words and line ends, {row['scored_bytes']:,} bytes, {UNKNOWN_WORD} {row['unk']:,} "
        f"times, one token each; counted on {row['training_tokens']:,} tokens; SHA-256 of the "
        f"text {row['text_sha256'][:12]}"
        for (kind, side), row in first.items()
    ]
    return "\n".join([*("| " + " | ".join(row) + " |" for row in found), "", *facts]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocab", type=int, default=16_000)
    parser.add_argument("--orders", default="2,3,4,5")
    parser.add_argument("--sides", default="valid,test")
    parser.add_argument("--kinds", default="bpe,bpe_apart,words")
    options = parser.parse_args()
    rows = [row for kind in options.kinds.split(",") for row in measure(kind, options)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options.out.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
