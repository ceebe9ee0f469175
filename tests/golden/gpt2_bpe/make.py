"""Make the cut vocabulary, and cases.json: strings and their ids by tiktoken 0.14.0, with it and with all of GPT-2's.

python make.py FOLDER     (with OpenAI's encoder.json and vocab.bpe; pip install tiktoken)
"""

import json
import os
import random
import sys
from pathlib import Path

import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks

MERGES = 1500
HERE = Path(__file__).parent
# As tiktoken_ext has it for "gpt2".
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
ALPHABETS = [
    "abcdefgh ", "etaoin  ", "AbC'sdmtlre ", " \t\n\r", "0123456789 .,", "!\"#$%&()*+-/<>=?@[]^_`{|}~ ", "éèàçñßøåÆ ", "ĠĊĉ▁ a",
    "абвгд ", "αβγδε ", "אבגד ", "ابتثج ", "कखगघि ", "中文字符語 ", "日本語のテキスト", "한국어 ", "กขคงจ ", "\u00a0\u2003\u3000\u200b a",
    "\u0300\u0301e\u0323a", "\u200d\ufe0f👩👧😀🇩🇪", "\0\x01\x1b\x7f\x80\x85", "\ufeff\ufffe\uffff\ufffd", "١٢٣٤Ⅷ½²9 ", "𝔸𝕓𐍈𒀀 \U0010ffff",
]  # fmt: skip
WRITTEN = [
    "", " ", "\n", "a", "Hello world", " hello", "hello ", "don't can't I'll we've they're he's it'd I'm DON'T CAN'T", "<|endoftext|>",
    "x <|endoftext|> y", "<bos><eos><pad><unk>", "   leading and trailing   ", "a\n\nb", "a \n b", "\n\n\n\nx", "tab\tand\r\nreturn\r",
    "def f(x):\n    return x ** 2  # squared\n", "https://example.org/a?b=c&d=%20", "1234567890" * 3, "3.14159 -42 1e-5", "!" * 50, "ab" * 40,
    "The quick brown fox jumps over the lazy dog.", "naïve café — “quoted” … ’tis", "'s 't 're 've 'm 'll 'd", "''''''s", "\u2019s it\u2019s",
]  # fmt: skip


def strings() -> list[str]:
    rng = random.Random(0)
    found = list(WRITTEN)
    while len(found) < 1000:
        alphabets = rng.choices(ALPHABETS, k=rng.choice([1, 1, 2, 4]))
        found.append("".join(rng.choice(rng.choice(alphabets)) for _ in range(rng.randint(1, 24))))
    while len(found) < 1100:  # any character that UTF-8 has
        codes = (
            rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)]) for _ in range(rng.randint(1, 12))
        )
        found.append("".join(map(chr, codes)))
    return found


def main() -> None:
    folder, cut = Path(sys.argv[1]), HERE
    merges = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[: MERGES + 1]
    encoder = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    kept = {token: number for token, number in encoder.items() if number < 256 + MERGES}
    kept["<|endoftext|>"] = 256 + MERGES
    (cut / "vocab.bpe").write_text("\n".join(merges) + "\n", encoding="utf-8")
    (cut / "encoder.json").write_text(json.dumps(kept), encoding="utf-8")
    os.environ["TIKTOKEN_CACHE_DIR"] = ""  # paths are read where they lie
    encodings = []
    for place, end in ((cut, 256 + MERGES), (folder, 50256)):
        ranks = data_gym_to_mergeable_bpe_ranks(str(place / "vocab.bpe"), str(place / "encoder.json"))
        known = {"mergeable_ranks": ranks, "special_tokens": {"<|endoftext|>": end}}
        encodings.append(tiktoken.Encoding("gpt2", pat_str=PATTERN, **known))
    rows = []
    for text in strings():
        ids = [encoding.encode(text, disallowed_special=()) for encoding in encodings]
        rows.append(json.dumps({"text": text, "cut": ids[0], "whole": ids[1]}))
    (HERE / "cases.json").write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
