"""Show what one or several trained models have learned: samples, losses by author and by context, attention, copies.

python -m juliagpt_jax.analyse --workdir=runs/tiny [--workdir=runs/other ...] --out=DIR [--seeds=4] [--prompt=TEXT ...]

python -m juliagpt_jax.analyse --workdir=runs/tiny --out=DIR --task=WORD [--task_data=PATH] [--shots=N] [--limit=N]

Writes analysis.md, analysis.json and plots: losses.png, and for each run with attention distances-NAME.png and
maps-NAME.png; NAME is the run's folder. With --task it writes TASK.md, TASK.json and plots instead: the kinds of errors
that the answers have. The search for copies needs pydivsufsort: pip install -e '.[study]'.
"""

import argparse
import itertools
from pathlib import Path

from juliagpt_jax.evaluation.tasks import asked
from juliagpt_jax.ground import command, devices, files, sealed
from juliagpt_jax.ground.errors import UserError


def parser() -> command.Parser:
    flags = command.Parser(
        "analyse", "Samples, losses by author and by context, attention and copies of trained models."
    )
    flags.add_argument("--workdir", required=True, action="append", metavar="DIR", help="may be given several times")
    flags.add_argument("--out", required=True, metavar="DIR", help="folder for analysis.md, analysis.json and plots")
    flags.add_argument("--checkpoint", default="newest", help="newest, best, or a step")
    flags.add_argument("--averaged", action="store_true", help="use the averaged weights, if training kept an average")
    flags.add_argument("--prompt", action="append", metavar="TEXT", help="may be given several times; default: four")
    flags.add_argument("--seeds", type=int, default=4, metavar="N", help="samples of each prompt, all shown")
    flags.add_argument("--new_tokens", type=int, default=200, metavar="N", help="length of each sample")
    flags.add_argument(
        "--windows", type=int, default=0, metavar="N", help="validation windows scored; 0: the whole text"
    )
    flags.add_argument("--targets", type=int, default=1024, metavar="N", help="tokens in the loss by context used")
    flags.add_argument(
        "--attention_windows", type=int, default=64, metavar="N", help="windows on which the heads are watched"
    )
    says = "contexts in a stream that is read for the loss by position and by what stays in sight; 0: none"
    flags.add_argument("--by_position", type=int, default=0, metavar="N", help=says)
    asked.add_flags(flags)
    flags.add_precision_flag()
    flags.add_argument("--seed", type=int, default=0, help="of a task: of the examples shown and of samples")
    flags.add_argument("--unknown", choices=["error", "skip", "fold"], default="error", help=command.UNKNOWN)
    flags.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    if asked.wanted(options):
        return asked.analyse(options)
    lows = {"seeds": 1, "new_tokens": 1, "windows": 0, "targets": 2, "attention_windows": 1, "by_position": 0}
    for name, low in lows.items():
        if not low <= getattr(options, name) < 2**31:
            raise UserError(f"--{name}={getattr(options, name)} must be at least {low}")
    if options.by_position not in (0, *range(2, 1025)):
        raise UserError(f"--by_position={options.by_position} is outside 2 .. 1024 contexts; 0: no streams")
    workdirs = [Path(workdir) for workdir in options.workdir]
    names = _names(workdirs)

    from juliagpt_jax.data import corpus as corpora
    from juliagpt_jax.inference.opened import open_model
    from juliagpt_jax.store.workdir import find

    found = [find(workdir, options.checkpoint, options.averaged) for workdir in workdirs]
    for each in found:
        corpora.check(each.config.data)
    out = Path(options.out)
    files.make_folder(out)
    devices.prepare(found[0].config)

    from juliagpt_jax.evaluation import analysis

    effort = analysis.Effort(
        windows=options.windows,
        targets=options.targets,
        attention_windows=options.attention_windows,
        prompts=tuple(dict.fromkeys(options.prompt or analysis.samples.PROMPTS)),
        seeds=options.seeds,
        new_tokens=options.new_tokens,
        by_position=options.by_position,
    )
    runs, maps = {}, {}
    for name, each in zip(names, found, strict=True):
        opened, path = open_model(each), each.config.data.path
        corpus = opened.run.corpus()
        seen = analysis.analyse(opened.model, opened.params, corpus, path == "schoolroom", effort)
        runs[name] = {"workdir": str(each.workdir), "data": path, "step": opened.run.step} | seen
        if seen["attention"]:
            maps[name] = analysis.map_of(opened.model, opened.params, corpus)
        print(f"{each.workdir}: {seen['bpc']:.4f} bits per character, {len(seen['samples'])} samples", flush=True)
    plots = analysis.draw(runs, maps, out)
    values = {"effort": vars(effort), "runs": runs}
    sealed.write_json(out / "analysis.json", values)
    files.write_text(out / "analysis.md", analysis.page(runs, effort, plots))
    print(f"{out}: {', '.join(['analysis.md', 'analysis.json', *plots])}")
    if options.json:
        command.print_json(values)


def _names(workdirs: list[Path]) -> list[str]:
    """Names of workdirs on the page: their last folders; where two of these are alike, what their paths don't share,
    "baseline" and "muon" of cells/baseline/11/run and cells/muon/11/run.

    Raises:
        UserError: they are not told apart so: one is given twice.
    """
    if len({workdir.name for workdir in workdirs}) == len(workdirs):
        return [workdir.name for workdir in workdirs]
    paths = [workdir.resolve().parts for workdir in workdirs]
    shared = lambda columns: len(list(itertools.takewhile(lambda parts: len(set(parts)) == 1, columns)))
    first = shared(zip(*paths, strict=False))
    last = shared(zip(*(path[first:][::-1] for path in paths), strict=False))
    names = ["-".join(path[first : len(path) - last]) or path[-1] for path in paths]
    if len(set(names)) < len(names):
        raise UserError("--workdir: two folders have the same name, by which the page tells them apart")
    return names


if __name__ == "__main__":
    command.run(parser(), main)
