"""Measure a trained model.

python -m juliagpt_jax.evaluate --workdir=runs/tiny [--data=DIR|FILE] [--ensemble=runs/a,runs/b] [--json]
"""

import argparse
import math
import sys
from pathlib import Path

from juliagpt_jax.ground import command, devices
from juliagpt_jax.ground.errors import NumericalError, UserError
from juliagpt_jax.study import beside


def parser() -> command.Parser:
    flags = command.Parser("evaluate", "Perplexity, bits per byte, diversity, FLOPs and size of a trained model.")
    flags.add_run_flags()
    flags.add_argument(
        "--data",
        metavar="PATH",
        help="a folder with val.txt, or a .txt or .jsonl file, scored whole; default: the run's",
    )
    flags.add_argument(
        "--stride", type=int, default=0, metavar="N", help="tokens that each window scores anew; 0: half the context"
    )
    flags.add_argument(
        "--ensemble", metavar="DIR,DIR,...", help="more runs: what they predict together with --workdir's, on average"
    )
    flags.add_argument("--unknown", choices=["error", "skip", "fold"], default="error", help=command.UNKNOWN)
    flags.add_adapter_flag()
    flags.add_precision_flag()
    flags.add_argument("--seed", type=int, default=0, help="of the generated text")
    flags.add_ode_flags()
    flags.add_argument(
        "--ode_adaptive", action="store_true", help="score with steps that adapt to each batch: they look ahead"
    )
    beside.add_flags(flags)
    flags.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    ode = command.ode_values(options)
    command.check_seed(options.seed)
    beside.check(options)

    from juliagpt_jax.data import corpus as corpora
    from juliagpt_jax.data.reading import read_passages
    from juliagpt_jax.inference.opened import open_model
    from juliagpt_jax.store.workdir import find

    found = find(Path(options.workdir), options.checkpoint, options.averaged, ode, adapter=options.adapter)
    others = options.ensemble.split(",") if options.ensemble else []
    others = [find(Path(name), options.checkpoint, options.averaged, ode) for name in others]
    settings = found.config
    if not 0 <= options.stride <= settings.model.context:
        raise UserError(f"--stride={options.stride} is outside 1 .. context {settings.model.context}")
    if options.ode_adaptive and not (options.ode_rtol or settings.model.ode.rtol):
        raise UserError("--ode_adaptive needs a tolerance: --ode_rtol=1e-2")
    passages, documents = read_passages(Path(options.data), settings.data) if options.data else ([], False)
    if not options.data or beside.wants_corpus(options):
        corpora.check(settings.data)
    devices.prepare(settings.mesh)

    from juliagpt_jax.data import folding, selection
    from juliagpt_jax.evaluation import cost, ensemble, protocol, reading, report, routing, yardsticks
    from juliagpt_jax.inference import schedule, scoring
    from juliagpt_jax.inference.generate import Generator
    from juliagpt_jax.models import parameters

    opened = open_model(found, options.precision)
    run, model, weights = opened.run, opened.model, opened.params
    scored = (opened.adaptive if options.ode_adaptive else None) or model
    tokenizer, parts, left_out, corpus = run.tokenizer, {}, 0, None
    source, entropy, counted = options.data, math.nan, {}
    if not options.data or beside.wants_corpus(options):
        corpus = run.corpus(lambda why: print(f"note: {why}", file=sys.stderr))
    same = corpus is not None and corpus.tokenizer.to_dict() == tokenizer.to_dict()
    if beside.wants_corpus(options) and not same:
        raise UserError(
            f"{settings.data.path} is not in the tokens of {options.workdir}: no n-grams, no gradients of it"
        )
    if corpus is not None and not options.data:
        source, entropy, counted = f"validation part of {settings.data.path}", corpus.entropy, yardsticks.of(corpus)
        passages = corpora.texts(corpus.tokenizer, corpus.val, corpus.val_chunks.lengths)
        documents, passages = corpus.documents, passages if corpus.documents else ["".join(passages)]
    if corpus is not None and not options.data and same:
        tokens, parts = corpus.val, selection.parts(corpus.val_chunks, settings.data.weights_by)
    else:
        if options.unknown == "fold":
            passages = [folding.fold(tokenizer, passage)[0] for passage in passages]
        encode = lambda passage: folding.encode(tokenizer, passage, options.unknown)
        text, (tokens, _) = "".join(passages), corpora.joined(tokenizer, passages, documents, encode)
        left_out = sum(map(text.count, tokenizer.unknown(text)))
    if len(tokens) == 0:
        raise UserError(f"{source}: no text to score")

    context, stride = settings.model.context, options.stride or settings.model.context // 2
    losses, places = scoring.in_order(scored, weights, tokens, tokenizer.lead, stride)
    summed = lambda losses, parts=None: scoring.summed(losses, places, tokens, context, stride, tokenizer, parts)
    score = summed(losses, parts)
    if not math.isfinite(score.loss):
        raise NumericalError(f"{options.workdir}: the loss is not finite: {schedule.why(scored)}")
    generator = Generator(model, weights)
    texts, chars_per_s = report.write(generator, tokenizer, options.seed)
    trained = run.step * settings.train.batch_size * context
    used = cost.multiplied(settings.model, run.params)
    values = {
        "workdir": options.workdir,
        "data": source,
        "step": run.step,
        **score.to_dict(),
        "unit": tokenizer.unit,
        "protocol": protocol.line(score, tokens, tokenizer, source),
        "beside": beside.rows(options, opened, scored, corpus, tokens, losses, summed),
        "written": sum(map(len, texts)),
        **report.judge(texts, settings.data.path == "schoolroom"),
        "left_out": left_out,
        "entropy": entropy,
        "params": parameters.count(run.params),
        "active_params": parameters.active(run.params, settings.model),
        "tokens": trained,
        "flops": trained * cost.train_flops_per_token(settings.model, used, tokenizer.vocab_size),
        **schedule.describe(model, scored, weights, scoring.spread(tokens, context, 8, tokenizer.lead)[0]),
        **routing.measure(model, weights, tokens, tokenizer.lead),
        "checkpoint_bytes": _size(run.folder),
        "params_bytes": _size(run.folder / "params" if run.folder.is_dir() else run.folder),
        "chars_per_s": chars_per_s,
        "peak_memory_bytes": devices.peak_memory_bytes(),
        "compilations": {"eval": scoring.compilations()} | generator.compilations,
    }
    values |= {"counted": counted, "words": reading.read(score.bpc, entropy, counted, tokenizer.unit)}
    print(report.describe(values, entropy))
    if others:
        members = [opened, *(open_model(other, options.precision) for other in others)]
        values["ensemble"] = ensemble.measure(members, tokens, score, tokenizer.lead)
        print(f"\n{ensemble.describe(values['ensemble'])}")
    if options.json:
        command.print_json(values)


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(f.stat().st_size for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file())


if __name__ == "__main__":
    command.run(parser(), main)
