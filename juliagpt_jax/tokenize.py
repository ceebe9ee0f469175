"""Learn a vocabulary of words and parts of words from a text, or take over one that there is.

python -m juliagpt_jax.tokenize --source=data/mine --vocab=16000 --out=data/mine_words
python -m juliagpt_jax.main --config=configs/tiny.py --workdir=runs/words --config.data.path=data/mine \
    --config.data.tokenizer=data/mine_words/tokenizer.json
"""

import argparse
import importlib.metadata
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from juliagpt_jax.ground import command, texts
from juliagpt_jax.ground.errors import UserError


def parser() -> command.Parser:
    flags = command.Parser("tokenize", "A text in; a tokenizer for config.data.tokenizer, and a report, out.")
    flags.add_argument(
        "--source",
        metavar="PATH",
        help="schoolroom, a .txt or .jsonl file or a folder, as config.data.path; validation text is not read",
    )
    flags.add_argument("--vocab", type=int, metavar="N", help="tokens, with the 256 bytes and the special ones")
    flags.add_argument("--unk", action="store_true", help="<unk> in the text is one token, as WikiText-2 needs it")
    flags.add_argument(
        "--errors",
        choices=["strict", "replace"],
        default="strict",
        help="bytes of --source that are not text: refuse; or replace",
    )
    flags.add_argument(
        "--from",
        dest="given",
        metavar="DIR",
        help="instead of --source: a folder with GPT-2's encoder.json and vocab.bpe (or vocab.json and merges.txt), or "
        "with a tokenizer.json",
    )
    flags.add_argument("--out", required=True, metavar="DIR", help="it must not exist yet")
    flags.add_argument("--json", action="store_true", help="print the report as one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    if bool(options.source) == bool(options.given):
        raise UserError("give --source=PATH to learn a vocabulary, or --from=DIR to take one over")
    if options.given and (options.vocab is not None or options.unk):
        raise UserError("--vocab and --unk are for --source: the tokens of --from are what they are")
    if options.source and options.vocab is None:
        raise UserError("--source needs --vocab=N; 16000 suits a text of ten million characters")

    from juliagpt_jax.data import bpe, density, vocabularies
    from juliagpt_jax.data.tokenizer import digest
    from juliagpt_jax.ground.files import new_folder, write_text
    from juliagpt_jax.ground.sealed import write_json

    if options.source:
        bpe.check(options.vocab or 0, options.unk, "--vocab")
    with new_folder(texts.path(options.out), "--out") as folder:
        if options.given:
            tokenizer, report = vocabularies.read(texts.path(options.given)), {}
        else:
            tokenizer, report = _learn(options)
        report |= {"vocab": tokenizer.vocab_size, "special": tokenizer.special, "tokenizer_sha256": digest(tokenizer)}
        vocabularies.write(folder, tokenizer)
        write_json(folder / "report.json", report)
        write_text(folder / "report.md", density.page(report))
    print("\n".join(density.told(report, options.out)))
    if options.json:
        command.print_json(report)


def _learn(options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Learn a vocabulary; return the tokenizer, and what the report says of its text."""
    from juliagpt_jax.data import bpe, density, stream

    source = stream.open_source(options.source, options.errors)
    kept, bound = density.Sample(source.characters), bpe.Bound()
    passages = _progress(kept.of(source.texts()), source.characters)
    python = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python would hear of Ctrl-C when the library is done
    try:
        tokenizer = bpe.train(bound.of(passages), options.vocab, options.unk)
    finally:
        signal.signal(signal.SIGINT, python)
    left_out = [f"{bound.left_out:,} words left out: they are new behind very many"] if bound.left_out else []
    measured = density.measure(tokenizer, kept.texts)
    asked = {"asked": options.vocab, "unk": options.unk, "errors": options.errors}
    library = {"tokenizers": importlib.metadata.version("tokenizers")}
    found = {"characters": source.characters, "files": source.hashes, "notes": [*source.notes, *left_out]}
    return tokenizer, asked | library | found | {"measured": measured.to_dict()}


def _progress(passages: Iterable[str], characters: int) -> Iterator[str]:
    """Show a bar on stderr, on a terminal only, while passages go by; then the pairs are counted."""
    if not sys.stderr.isatty():
        yield from passages
        return
    from tqdm import tqdm

    with tqdm(total=characters, desc="reading", unit=" characters", unit_scale=True, leave=False) as bar:
        for text in passages:
            bar.update(len(text))
            yield text
    print("learning the tokens", file=sys.stderr)


if __name__ == "__main__":
    command.run(parser(), main)
