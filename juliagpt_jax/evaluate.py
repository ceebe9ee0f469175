"""Measure a trained model.

python -m juliagpt_jax.evaluate --workdir=runs/tiny [--data=DIR|FILE] [--ensemble=runs/a,runs/b] [--json]
python -m juliagpt_jax.evaluate --workdir=runs/tiny --task=WORD [--task_data=PATH] [--shots=N] [--limit=N] [--json]
python -m juliagpt_jax.evaluate --workdir=runs/tiny --every [--follow]      (each checkpoint once; while it trains, too)
"""

import argparse
import sys
from pathlib import Path

from juliagpt_jax.evaluation.tasks import asked
from juliagpt_jax.ground import command, devices
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.study import beside

KINDS = "decoder recursive t5"  # of models whose checkpoints are measured by --every


def parser() -> command.Parser:
    flags = command.Parser("evaluate", "Perplexity, bits per byte, diversity, FLOPs and size of a trained model.")
    flags.add_run_flags(adapter=True)
    flags.add_argument(
        "--data",
        metavar="PATH",
        help="a folder with val.txt, or a .txt or .jsonl file, scored whole; default: the run's",
    )
    says = "tokens that each window scores anew; 0: half the context"
    flags.add_argument("--stride", type=int, default=0, metavar="N", help=says)
    says = "each kept checkpoint that was not measured so yet, into evaluations.jsonl"
    flags.add_argument("--every", action="store_true", help=says)
    flags.add_argument("--follow", action="store_true", help="with --every: go on until the run has ended")
    says = "more runs: what they predict together with --workdir's, on average"
    flags.add_argument("--ensemble", metavar="DIR,DIR,...", help=says)
    flags.add_argument("--unknown", choices=["error", "skip", "fold"], default="error", help=command.UNKNOWN)
    flags.add_precision_flag()
    flags.add_argument("--seed", type=int, default=0, help="of the generated text")
    says = "of generated text, whose diversity and speed are told; 0: write none, which a large model is slow at"
    flags.add_argument("--written", type=int, metavar="TOKENS", help=says + " (default: 10,000)")
    flags.add_ode_flags()
    says = "score with steps that adapt to each batch: they look ahead"
    flags.add_argument("--ode_adaptive", action="store_true", help=says)
    beside.add_flags(flags)
    asked.add_flags(flags)
    flags.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    ode = command.ode_values(options)
    command.check_seed(options.seed)
    beside.check(options)
    _check_every(options)
    of_task = asked.wanted(options)
    if of_task and not options.every:
        return asked.evaluate(options)

    from juliagpt_jax.data import corpus as corpora
    from juliagpt_jax.data.reading import read_passages
    from juliagpt_jax.evaluation import every
    from juliagpt_jax.inference.opened import open_model
    from juliagpt_jax.store.workdir import find

    workdir, note = Path(options.workdir), lambda why: print(f"note: {why}", file=sys.stderr)
    kinds = KINDS if options.every else "decoder"
    look = lambda checkpoint: find(workdir, checkpoint, options.averaged, ode, kinds, options.adapter)
    if options.follow:
        every.wait(workdir, _say)
    found = look(options.checkpoint)
    names = options.ensemble.split(",") if options.ensemble else []
    others = [find(Path(name), options.checkpoint, options.averaged, ode) for name in names]
    settings = found.config
    if not 0 <= options.stride <= settings.model.context:
        raise UserError(f"--stride={options.stride} is outside 1 .. context {settings.model.context}")
    if options.ode_adaptive and not (options.ode_rtol or settings.model.ode.rtol):
        raise UserError("--ode_adaptive needs a tolerance: --ode_rtol=1e-2")
    if options.written is not None and options.written < 0:
        raise UserError(f"--written={options.written} is below 0")
    questions = asked.prepare(options) if of_task else None
    passages, documents = read_passages(Path(options.data), settings.data) if options.data else ([], False)
    if not options.every and (not options.data or beside.wants_corpus(options)):
        corpora.check(settings.data)
    devices.prepare(settings)

    from juliagpt_jax.evaluation import ensemble, measure, measures, report

    written = report.GENERATED_TOKENS if options.written is None else options.written
    told = (options.stride, options.unknown, options.seed, options.ode_adaptive, written)
    wanted = measure.Asked(options.data or "", passages, documents, *told)
    if options.every:
        how = {"averaged": options.averaged, "precision": options.precision, "seed": options.seed, "ode": ode}
        if questions:
            each, more = measures.of_task(options, questions)
        else:
            given = measures.Given(settings, lambda step: look(str(step)), wanted, options.precision, note)
            each = measures.build(given)
            more = {"data": options.data, "stride": options.stride, "unknown": options.unknown}
            more |= {"adaptive": options.ode_adaptive}
        rows = every.run(workdir, each, how | more, options.follow, _say)
        print(f"{workdir}: {len(rows)} checkpoints in {every.ROWS}")
        if options.json:
            command.print_json({"evaluations": rows})
        return

    opened = open_model(found, options.precision)
    text = measure.Text(opened.run, wanted, note, beside.wants_corpus(options))
    scored = text.score(opened)
    values = text.measure(opened, scored, options.workdir)
    row = (options, opened, scored.model, text.corpus, text.tokens, scored.losses, scored.summed)
    values["beside"] = beside.rows(*row)
    print(report.describe(values, text.entropy))
    if others:
        members = [opened, *(open_model(other, options.precision) for other in others)]
        values["ensemble"] = ensemble.measure(members, text.tokens, scored.score, text.tokenizer.lead)
        print(f"\n{ensemble.describe(values['ensemble'])}")
    if options.json:
        command.print_json(values)


def _say(text: str) -> None:
    print(text, flush=True)


def _check_every(options: argparse.Namespace) -> None:
    """Raise a UserError where a flag is of one checkpoint and all are asked for, or needs all."""
    if options.follow and not options.every:
        raise UserError("--follow goes with --every")
    one = {"--checkpoint": options.checkpoint != "newest", "--ensemble": options.ensemble}
    one |= {"--baseline": options.baseline, "--cache": options.cache, "--dynamic": options.dynamic}
    one |= {"--results": options.results, "--answers": options.answers, "--written": options.written is not None}
    for flag, given in one.items():
        if options.every and given:
            raise UserError(f"{flag} is of one checkpoint, and --every of all")


if __name__ == "__main__":
    command.run(parser(), main)
