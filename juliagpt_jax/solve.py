"""Solve puzzles with a trained recursive model, and verify the answers.

python -m juliagpt_jax.solve --workdir=runs/trm_sudoku6 [--puzzles=FILE] [--steps=N] [--samples=K] [--forms=K] \
    [--draw=DIR]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import command, devices
from juliagpt_jax.ground.errors import NumericalError, UserError
from juliagpt_jax.ground.files import write_text

SHOWN = 3  # puzzles that are printed where --show does not say how many


def parser() -> command.Parser:
    flags = command.Parser("solve", "Solve puzzles with a trained recursive model; every answer is verified.")
    flags.add_run_flags()
    flags.add_argument(
        "--puzzles",
        metavar="FILE",
        help="sudokus, a line of digits each, or a .csv; mazes or ARC tasks as JSON; sums and arguments, one a line; "
        "default: the run's test puzzles",
    )
    flags.add_argument("--steps", type=int, default=0, metavar="N", help="supervision steps; default: as in training")
    flags.add_argument("--samples", type=int, default=1, metavar="K", help="tries, of which the most trusted counts")
    flags.add_argument("--forms", type=int, default=1, metavar="K", help="turned and renamed, that vote; default: 1")
    flags.add_argument("--without_ids", action="store_true", help="as if the puzzles' embeddings were not known")
    flags.add_argument("--noise", type=float, default=0.1, metavar="S", help="that tries differ by; default: 0.1")
    flags.add_argument("--show", type=int, default=SHOWN, metavar="N", help=f"puzzles to print; default: {SHOWN}")
    flags.add_argument("--draw", metavar="DIR", help="draw how the answers to these come about, a picture each")
    flags.add_argument(
        "--submission", metavar="FILE", help="write what all forms of ARC tasks vote for, as ARC Prize asks"
    )
    flags.add_argument("--seed", type=int, default=0, help="of the noise")
    flags.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    for flag, least in (("steps", 0), ("samples", 1), ("forms", 1), ("noise", 0), ("show", 0)):
        if not getattr(options, flag) >= least:
            raise UserError(f"--{flag}={getattr(options, flag)} must be at least {least}")
    if options.steps > 4096:
        raise UserError(f"--steps={options.steps} must be at most 4096")
    command.check_seed(options.seed)

    import numpy as np

    from juliagpt_jax.data.puzzles import arc, build
    from juliagpt_jax.data.puzzles.puzzles import Pairs
    from juliagpt_jax.store.workdir import find

    found = find(Path(options.workdir), options.checkpoint, options.averaged, kind="recursive")
    settings = found.config
    if options.submission and settings.data.puzzle.kind != "arc":
        raise UserError(f"--submission: is of ARC tasks; this model solves {settings.data.puzzle.kind} puzzles")
    if options.puzzles:
        puzzles = build.build_puzzles(settings, files=False)
        given = puzzles.read(Path(options.puzzles))
        for one in given:
            if reason := puzzles.refuse(one.puzzle):
                raise UserError(f"{one.name}: {reason}")
        names, known = [one.name for one in given], None
        tokens = np.array([one.puzzle for one in given], np.int32)
        test = Pairs(tokens, tokens, np.array([one.id for one in given], np.int32))
    else:
        puzzles = build.load(settings)
        test = known = puzzles.test
        names = [f"test puzzle {i + 1}" for i in range(len(test.inputs))]
    if options.forms > 1 and puzzles.forms(np.random.default_rng(0), 1) is None:
        raise UserError(f"--forms: puzzles of the kind {settings.data.puzzle.kind} have none that could vote here")
    if options.without_ids:
        test = test._replace(ids=np.full_like(test.ids, arc.UNKNOWN))
    devices.prepare(settings)

    from juliagpt_jax.evaluation import puzzles as measured
    from juliagpt_jax.inference import solving
    from juliagpt_jax.models.recursive import Recursive
    from juliagpt_jax.store.workdir import open_run

    run = open_run(found)
    assert isinstance(run.model, Recursive)
    steps = options.steps or settings.train.recursive.steps
    how: dict[str, Any] = {"samples": options.samples, "noise": options.noise, "seed": options.seed}
    each = solving.solve_forms(run.model, run.params, puzzles, test, steps, options.forms, **how)
    solved = solving.vote(each)
    if not np.isfinite(solved.halts).all():
        raise NumericalError(f"{options.workdir}: what the model computes is not finite")
    verify = lambda answers: [puzzles.wrong(*pair) for pair in zip(test.inputs, answers, strict=True)]
    verdicts = verify(solved.answers[-1])
    good = sum(not verdict for verdict in verdicts)
    for i in range(min(options.show, len(names))):
        print(f"{names[i]}\n{puzzles.beside(test.inputs[i], solved.answers[-1, i])}\n{verdicts[i] or 'solved'}\n")
        if options.draw:
            path = measured.draw(puzzles, test.inputs[i], solved.answers[:, i], Path(options.draw) / f"{i + 1}.png")
            print(f"{path}: the answer after each step\n")
    print(f"{good:,} of {len(names):,} solved, by step {steps} of checkpoint {run.step}")
    values = {"workdir": options.workdir, "step": run.step, "steps": steps, **how, "puzzles": len(names)}
    early = sum(not verdict for verdict in verify(solved.answers[0])) / len(names)
    values |= {"verified": good / len(names), "verified_first_step": early, "verdicts": verdicts}
    values |= {"answers": [puzzles.text(answer) for answer in solved.answers[-1]]}
    values |= {"forms": options.forms, "without_ids": options.without_ids}
    if options.forms > 1:
        values["votes"] = measured.of_forms(solved, each[0], lambda said: np.array([not why for why in verify(said)]))
        print(", ".join(f"{what.replace('_', ' ')} {share:.1%}" for what, share in values["votes"].items()))
    if known is not None:
        values |= measured.score(solved, known, puzzles)
        print(f"solved after each step: {' '.join(f'{share:.1%}' for share in values['solved_by_step'])}")
        print(f"symbols right after each step: {' '.join(f'{share:.1%}' for share in values['symbols_by_step'])}")
        if isinstance(puzzles, arc.Arc):
            values["tasks"] = measured.of_tasks(puzzles, solved)
    if isinstance(puzzles, arc.Arc) and options.submission:
        voted = arc.vote(puzzles.asks, solved.answers[-1], solved.halts[-1], settings.data.puzzle.side)
        write_text(Path(options.submission), json.dumps(arc.submission(voted)))
        print(f"{options.submission}: two tries for each test of {len(voted):,} tasks")
    if options.json:
        command.print_json(values)


if __name__ == "__main__":
    command.run(parser(), main)
