"""Answer a task's questions several times each, and choose among the answers.

python -m juliagpt_jax.answer --workdir=runs/sums --task=sums --samples=16 --by=vote [--calculator] [--json]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import command, devices
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import write_text

WAYS = ["vote", "likelihood", "verifier"]  # of search/choosing.py, written out: --help comes before JAX is imported


def parser() -> command.Parser:
    flags = command.Parser(
        "answer", "Answer a task's questions several times each, and measure what choosing among the answers is worth."
    )
    flags.add_run_flags()
    flags.add_argument("--task", required=True, metavar="NAME", help="of data/tasks/build.py: sums, addition, ...")
    flags.add_argument("--path", metavar="PATH", help="the user's file or folder of a task that is not made up")
    flags.add_argument("--split", default="test", choices=["train", "dev", "test"])
    flags.add_argument("--examples", type=int, default=0, metavar="N", help="evenly spread over the split; 0: all")
    flags.add_argument("--samples", type=int, default=16, metavar="N", help="answers to each question")
    flags.add_argument("--by", choices=WAYS, default="vote", help="how the answer is chosen that is printed")
    flags.add_argument("--verifier", metavar="DIR", help="workdir of a trained verifier, which scores the answers")
    flags.add_argument("--revise", type=int, default=0, metavar="N", help="rounds in which doubted answers are redone")
    flags.add_argument("--gate", type=float, default=0.5, help="score below which --revise doubts an answer")
    flags.add_argument("--chat", action="store_true", help="ask in the model's chat template")
    flags.add_argument("--calculator", action="store_true", help="fill in results: <<2+3= becomes <<2+3=5>>")
    flags.add_argument("--grammar", metavar="FORM", help="hold answers to number, integer, labels:a,b or json:FILE")
    flags.add_argument("--max_new_tokens", type=int, metavar="N", help="of an answer; default: the task's")
    flags.add_argument("--temperature", type=float, default=1.0)
    flags.add_argument("--top_k", type=int, default=0, metavar="K", help="draw from the K most likely; 0: all")
    flags.add_argument("--top_p", type=float, default=1.0, metavar="P", help="draw from the likeliest that make up P")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--rows", type=int, default=64, metavar="B", help="answers that are written at the same time")
    flags.add_argument("--pairs", metavar="FILE", help="write right and wrong answers there: preferences for dpo")
    flags.add_argument("--show", type=int, default=5, metavar="N", help="questions that are printed with their answers")
    flags.add_precision_flag()
    flags.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    _check(options)

    from juliagpt_jax.data.tasks import build as tasks
    from juliagpt_jax.inference.rule import Rule
    from juliagpt_jax.search import forms
    from juliagpt_jax.store.workdir import find

    rule = Rule(options.temperature, options.top_k, options.top_p)
    form = forms.asked(options.grammar, options.calculator)
    task, found = tasks.find(options.task), find(Path(options.workdir), options.checkpoint, options.averaged)
    examples = tasks.read(options.task, options.split, options.path)
    devices.prepare(found.config)

    from juliagpt_jax.evaluation.tasks import searching
    from juliagpt_jax.inference.opened import open_model
    from juliagpt_jax.search import guides
    from juliagpt_jax.search.writing import Writer

    opened = open_model(found, options.precision)
    examples = [examples[i] for i in searching.spread(len(examples), options.examples)]
    guided = guides.guided(opened.tokenizer, form, options.calculator, f"--grammar={options.grammar}")
    most = options.max_new_tokens or searching.most(opened, task, examples, options.chat)
    writer = Writer(opened, rule, most, (task.stop,), max(options.rows, options.samples), guided, options.chat)
    verifier, character = None, 0.0
    if options.verifier:
        verifier, character = searching.open_verifier(Path(options.verifier), examples)
    price = searching.Price(searching.flops(opened), character)
    result = searching.search(writer, task, examples, options.samples, options.seed, verifier)
    rows = searching.curve(result, price)
    print(f"{options.task}, {options.split}: {len(examples):,} questions, {options.samples} answers to each")
    print(searching.table(rows))
    if options.pairs:
        write_text(Path(options.pairs), "".join(f"{json.dumps(line)}\n" for line in searching.pairs(result)))
    chosen = result.chosen(options.by)
    values: dict[str, Any] = {
        "workdir": options.workdir,
        "task": options.task,
        "split": options.split,
        "examples": len(examples),
        "by": options.by,
        "seed": options.seed,
        "curve": rows,
        "accuracy": rows[-1][options.by]["accuracy"],
        "pass_at_n": rows[-1]["any"]["accuracy"],
    }
    for example, answers, n in list(zip(examples, result.answers, chosen, strict=True))[: options.show]:
        mark = "right" if task.verify and task.verify(example, answers[n].text) else "wrong"
        print(f"\n{example.prompt}| {answers[n].text}   ({mark}; {example.answer})")
    if verifier and options.revise:
        how = (options.revise, options.gate, options.samples, options.seed, price)
        values["revised"] = searching.revised(result, writer, task, verifier, *how)
        for row in values["revised"]:
            says = f"{100 * row['accuracy']:.1f}% at {row['flops']:.2e} FLOPs, {row['doubted']} answers in doubt"
            print(f"verifier's best after {row['round']} rounds of revising: {says}")
    if options.json:
        command.print_json(values)


def _check(options: argparse.Namespace) -> None:
    command.check_seed(options.seed)
    for flag in ("samples", "rows"):
        if not 1 <= getattr(options, flag) <= 4096:
            raise UserError(f"--{flag}={getattr(options, flag)} must be in 1 .. 4096")
    if min(options.examples, options.revise, options.show) < 0:
        raise UserError("--examples, --revise and --show are at least 0")
    if not 0 < options.gate <= 1:
        raise UserError(f"--gate={options.gate:g} must be above 0 and at most 1")
    if (options.by == "verifier" or options.revise) and not options.verifier:
        raise UserError("--by=verifier and --revise need the workdir of a verifier: --verifier=DIR")
    if options.max_new_tokens is not None and options.max_new_tokens < 1:
        raise UserError("--max_new_tokens must be at least 1")


if __name__ == "__main__":
    command.run(parser(), main)
