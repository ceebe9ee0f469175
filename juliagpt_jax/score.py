"""Score every passage of the training text with a trained model: the file that data.scores takes.

python -m juliagpt_jax.score --workdir=runs/first --out=runs/first/scores.npz [--what=loss,el2n,grad_norm] [--json]
"""

import argparse
import dataclasses
from pathlib import Path
from typing import NoReturn

from juliagpt_jax.ground import command, devices, files
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.words import near

SCORES = ("loss", "perplexity", "el2n", "grad_norm")  # of evaluation/chunk_scores.py, which brings JAX


def parser() -> command.Parser:
    flags = command.Parser("score", "Loss, perplexity, EL2N and gradient norm of every passage of the training text.")
    flags.add_run_flags()
    flags.add_argument("--out", required=True, metavar="FILE", help="the file to write, such as scores.npz")
    flags.add_argument(
        "--what",
        default=",".join(SCORES),
        metavar="NAMES",
        help="scores to compute, with commas between",
    )
    flags.add_argument("--data", metavar="PATH", help="score another text's training part; default: the run's")
    flags.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="of matrix products")
    flags.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    names = tuple(dict.fromkeys(name.strip() for name in options.what.split(",")))
    for name in names:
        if name not in SCORES:
            raise UserError(f"--what: no score is called {name!r}{near(name, SCORES)}")

    from juliagpt_jax.data import corpus as corpora
    from juliagpt_jax.store.workdir import find, open_run

    found = find(Path(options.workdir), options.checkpoint, options.averaged)
    found.refuse_packed()
    data = dataclasses.replace(found.config.data, path=options.data or found.config.data.path)
    corpora.check(data)
    files.make_folder(Path(options.out).parent)
    devices.prepare(found.config)

    from juliagpt_jax.evaluation import chunk_scores

    run = open_run(found)
    corpus = corpora.load(data, found.config.model.context) if options.data else run.corpus(_another)
    tokens, lengths, lead = corpus.train, corpus.train_chunks.lengths, run.tokenizer.lead
    if corpus.tokenizer.to_dict() != run.tokenizer.to_dict():
        tokens, lengths = corpora.recoded(corpus, run.tokenizer)
    model = run.model.clone(precision=options.precision, remat=False, parent=None)
    chunks = chunk_scores.passages(tokens, lengths)
    done = chunk_scores.score(model, run.params, chunks, found.config.model.context, lead, names)
    chunk_scores.write(Path(options.out), done.values, corpus.fingerprint)

    quantiles = {name: chunk_scores.quantiles(done.values[name]) for name in names}
    print(f"{len(chunks.starts):,} passages of {data.path}, {len(tokens):,} tokens, step {run.step}: {options.out}\n")
    heads = list(next(iter(quantiles.values())))
    print(f"{'':<12}" + "".join(f"{head:>10}" for head in heads))
    for name, row in quantiles.items():
        print(f"{name:<12}" + "".join(f"{value:>10.4f}" for value in row.values()))
    for name in names:
        order = done.values[name].argsort(kind="stable")
        print()
        for word, chunk in [("lowest", order[0]), ("highest", order[-1])]:
            print(f"{word} {name}, passage {chunk}: {chunk_scores.text_of(chunks, chunk, run.tokenizer)[:160]}")
    print(f"\n{done.seconds:.1f} s, of them {done.compile_s:.1f} to compile; {done.tokens_per_s:,.0f} tokens/s")
    if options.json:
        command.print_json(
            {
                "workdir": options.workdir,
                "out": options.out,
                "step": run.step,
                "chunks": len(chunks.starts),
                "tokens": len(tokens),
                "scores": quantiles,
                "fingerprint": corpus.fingerprint,
                "seconds": done.seconds,
                "compile_s": done.compile_s,
                "tokens_per_s": done.tokens_per_s,
                "peak_memory_bytes": devices.peak_memory_bytes(),
            }
        )


def _another(why: str) -> NoReturn:
    raise UserError(f"{why}; --data=PATH scores any text")


if __name__ == "__main__":
    command.run(parser(), main)
