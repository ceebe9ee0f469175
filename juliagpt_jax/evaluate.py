"""Measure a trained model.

python -m juliagpt_jax.evaluate --workdir=runs/tiny [--data=DIR|FILE] [--ensemble=runs/a,runs/b] [--json]
python -m juliagpt_jax.evaluate --workdir=runs/tiny --task=WORD [--task_data=PATH] [--shots=N] [--limit=N] [--json]
python -m juliagpt_jax.evaluate --workdir=runs/tiny --every [--follow]      (each checkpoint once, of a run that trains too)
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
    flags.add_run_flags()
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
    if asked.wanted(options):
        return asked.evaluate(options)

    from juliagpt_jax.data import corpus as corpora
    from juliagpt_jax.data.reading import read_passages
    from juliagpt_jax.inference.opened import open_model
    from juliagpt_jax.store.workdir import find

    workdir = Path(options.workdir)
    every = _check_every(options)
    look = lambda checkpoint: find(workdir, checkpoint, options.averaged, ode, KINDS if every else "decoder")
    if options.follow:
        from juliagpt_jax.evaluation import every as checkpoints

        checkpoints.wait(workdir, lambda text: print(text, flush=True))
    found = look(options.checkpoint)
    names = options.ensemble.split(",") if options.ensemble else []
    others = [find(Path(name), options.checkpoint, options.averaged, ode) for name in names]
    settings = found.config
    if not 0 <= options.stride <= settings.model.context:
        raise UserError(f"--stride={options.stride} is outside 1 .. context {settings.model.context}")
    if options.ode_adaptive and not (options.ode_rtol or settings.model.ode.rtol):
        raise UserError("--ode_adaptive needs a tolerance: --ode_rtol=1e-2")
    passages, documents = read_passages(Path(options.data), settings.data) if options.data else ([], False)
    of_text = settings.model.kind == "decoder"
    if of_text and (not options.data or beside.wants_corpus(options)):
        corpora.check(settings.data)
    devices.prepare(settings.mesh)

    from juliagpt_jax.evaluation import ensemble, measure, measures, report
    from juliagpt_jax.evaluation.every import run as measure_every

    note = lambda why: print(f"note: {why}", file=sys.stderr)
    told = (options.stride, options.unknown, options.seed, options.ode_adaptive)
    asked = measure.Asked(options.data or "", passages, documents, *told)
    if every:
        given = measures.Given(settings, lambda step: look(str(step)), asked, options.precision, note)
        how = {"averaged": options.averaged, "precision": options.precision, "ode": ode} | {
            name: value for name, value in asked._asdict().items() if name not in ("passages", "documents")
        }
        rows = measure_every(workdir, measures.build(given), how, options.follow, lambda text: print(text, flush=True))
        print(f"{workdir}: {len(rows)} checkpoints in evaluations.jsonl")
        if options.json:
            command.print_json({"evaluations": rows})
        return

    opened = open_model(found, options.precision)
    text = measure.Text(opened.run, asked, note, beside.wants_corpus(options))
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


def _check_every(options: argparse.Namespace) -> bool:
    """Return whether all checkpoints are asked for.

    Raises:
        UserError: another flag is of one checkpoint, or needs all.
    """
    if options.follow and not options.every:
        raise UserError("--follow goes with --every")
    one = {"--checkpoint": options.checkpoint != "newest", "--ensemble": options.ensemble}
    one |= {"--baseline": options.baseline, "--cache": options.cache, "--dynamic": options.dynamic}
    for flag, given in one.items():
        if options.every and given:
            raise UserError(f"{flag} is of one checkpoint, and --every of all")
    return options.every


if __name__ == "__main__":
    command.run(parser(), main)
