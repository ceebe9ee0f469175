"""Measure a trained model.

python -m juliagpt_jax.evaluate --workdir=runs/tiny [--data=DIR|FILE] [--json]
"""

import argparse
import math
import sys
from pathlib import Path

from juliagpt_jax.ground import command, config, devices
from juliagpt_jax.ground.errors import NumericalError, UserError


def parser() -> command.Parser:
    flags = command.Parser("evaluate", "Perplexity, bits per character, diversity, FLOPs and size of a trained model.")
    flags.add_run_flags()
    flags.add_argument(
        "--data", metavar="PATH", help="a folder with val.txt, or a .txt file, scored whole; default: the run's"
    )
    flags.add_argument(
        "--stride", type=int, default=0, metavar="N", help="new characters a window; 0: half the context"
    )
    flags.add_argument("--unknown", choices=["error", "skip", "fold"], default="error", help=command.UNKNOWN)
    flags.add_precision_flag()
    flags.add_argument("--seed", type=int, default=0, help="of the generated characters")
    flags.add_ode_flags()
    flags.add_argument(
        "--ode_adaptive", action="store_true", help="score with steps that adapt to each batch: they look ahead"
    )
    flags.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    command.Parser.check_ode_flags(options)
    settings = config.read(Path(options.workdir) / "config.json")
    if not 0 <= options.stride <= settings.model.context:
        raise UserError(f"--stride={options.stride} is outside 1 .. context {settings.model.context}")
    if not 0 <= options.seed < 2**32:
        raise UserError("--seed must be in [0, 2^32)")
    devices.prepare(settings.mesh)

    from juliagpt_jax.data import corpus as corpora
    from juliagpt_jax.data import folding, selection
    from juliagpt_jax.evaluation import cost, report
    from juliagpt_jax.inference import schedule, scoring
    from juliagpt_jax.inference.generate import Generator
    from juliagpt_jax.models import precision
    from juliagpt_jax.models.parameters import count
    from juliagpt_jax.store.workdir import open_run

    run = open_run(Path(options.workdir), options.checkpoint, options.averaged)
    model, looking_ahead = schedule.choose(run, Path(options.workdir), options)
    if options.ode_adaptive and not looking_ahead:
        raise UserError("--ode_adaptive needs a tolerance: --ode_rtol=1e-2")
    word = options.precision or model.precision
    model, weights = precision.prepare(model, run.params, word)
    scored = model
    if options.ode_adaptive and looking_ahead:
        scored, _ = precision.prepare(looking_ahead, run.params, word)
    parts: dict = {}
    corpus = None
    if options.data:
        text, entropy = corpora.read_text(Path(options.data), settings.data), math.nan
        source = options.data
    else:
        corpus = corpora.load(settings.data, settings.model.context)
        if corpus.fingerprint != run.meta["data"]:
            print(f"note: {settings.data.path} is not what this model was trained on", file=sys.stderr)
        text = corpus.tokenizer.decode(corpus.val)
        source, entropy = f"validation part of {settings.data.path}", corpus.entropy
    if options.unknown == "fold":
        text = folding.fold(run.tokenizer, text)[0]
    tokens = folding.encode(run.tokenizer, text, options.unknown)
    if corpus is not None and len(tokens) == len(corpus.val):  # else characters were left out, and chunks are shorter
        parts = selection.parts(corpus.val_chunks, settings.data.weights_by)
    if len(tokens) == 0:
        raise UserError(f"{source}: no text to score")

    lead, stride = scoring.lead_token(run.tokenizer), options.stride or None
    left_out = sum(map(text.count, run.tokenizer.unknown(text)))
    density = (len(text) - left_out) / len(tokens)
    score = scoring.score_text(scored, weights, tokens, lead, stride, parts=parts, characters_per_token=density)
    if not math.isfinite(score.loss):
        raise NumericalError(f"{options.workdir}: the loss is not finite: {schedule.why(scored)}")
    generator = Generator(model, weights)
    texts, chars_per_s = report.write(generator, run.tokenizer, options.seed)
    params = count(run.params)
    trained = run.step * settings.train.batch_size * settings.model.context
    used = cost.multiplied(settings.model, run.params)
    values = {
        "workdir": options.workdir,
        "data": source,
        "step": run.step,
        **score.to_dict(),
        **report.judge(texts, settings.data.path == "schoolroom"),
        "left_out": left_out,
        "entropy": entropy,
        "params": params,
        "tokens": trained,
        "flops": trained * cost.train_flops_per_token(settings.model, used, run.tokenizer.vocab_size),
        **schedule.describe(model, scored, weights, scoring.spread(tokens, settings.model.context, 8, lead)[0]),
        "checkpoint_bytes": _size(run.folder),
        "params_bytes": _size(run.folder / "params" if run.folder.is_dir() else run.folder),
        "chars_per_s": chars_per_s,
        "peak_memory_bytes": devices.peak_memory_bytes(),
        "compilations": {"eval": scoring.compilations()} | generator.compilations,
    }
    print(report.describe(values, entropy))
    if options.json:
        command.print_json(values)


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(f.stat().st_size for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file())


if __name__ == "__main__":
    command.run(parser(), main)
