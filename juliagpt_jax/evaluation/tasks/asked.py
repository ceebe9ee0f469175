"""A task as it is asked for on the command line: its flags, its questions, and the row of results.

Imports nothing heavy before there is something to answer, so that --help and mistakes come at once.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from juliagpt_jax.ground import command, devices, files
from juliagpt_jax.ground.errors import NumericalError, StorageError, UserError
from juliagpt_jax.inference.rule import Rule

if TYPE_CHECKING:
    from juliagpt_jax.data.tasks.task import Example, Task
    from juliagpt_jax.evaluation.tasks.metrics import Chosen, Value, Written
    from juliagpt_jax.evaluation.tasks.prompting import Prompter
    from juliagpt_jax.inference.opened import Opened

BY = ("sum", "length", "unconditional")
WORD = 12  # tokens that hold a word
OTHERS = ("data", "ensemble", "baseline", "cache", "dynamic", "ode_adaptive", "stride")  # of evaluate without a task


class Questions(NamedTuple):
    """A task, what is asked of it, the examples that are shown before, and by which rule answers are written."""

    task: "Task"
    asked: "list[Example]"
    shots: "list[Example]"
    rule: Rule


class Answered(NamedTuple):
    """Questions with a model's answers."""

    questions: Questions
    opened: "Opened"
    prompter: "Prompter"
    answers: "Chosen | Written"
    values: dict[str, "Value"]
    seconds: float


def add_flags(flags: command.Parser) -> None:
    """Add the flags of a task: what is asked, and in which way."""
    task = flags.add_argument_group("a task instead of a text")
    task.add_argument("--task", metavar="WORD", help="sst2, gsm8k, sums, ...; a wrong one names all that there are")
    task.add_argument("--task_data", metavar="PATH", help="its file, or the folder of its files")
    task.add_argument(
        "--split", choices=["train", "dev", "test"], default="dev", help="the part that is asked; default: dev"
    )
    task.add_argument("--shots", type=int, default=0, metavar="N", help="examples of the train part that are shown")
    task.add_argument("--limit", type=int, default=0, metavar="N", help="ask the first N questions; 0: all")
    task.add_argument("--instruction", default="", metavar="TEXT", help="said before everything")
    task.add_argument("--chat", action="store_true", help="ask in the model's chat template")
    says = "choose by the choices' log-probability, that for each byte, or less that without the question"
    task.add_argument("--by", choices=BY, default="sum", help=says)
    task.add_argument("--samples", type=int, default=1, metavar="N", help="answers to each question, for pass@k")
    says = "of written answers; 0, the default of one sample, takes the most likely tokens; of several 0.8"
    task.add_argument("--temperature", type=float, metavar="T", help=says)
    task.add_argument("--max_new_tokens", type=int, metavar="N", help="of an answer; default: the task's")
    task.add_argument("--results", metavar="FILE", help="where a line is added; default: tasks.jsonl in the workdir")
    task.add_argument("--answers", metavar="FILE", help="write every answer there, a line each")


def wanted(options: argparse.Namespace) -> bool:
    """Return true where a task is asked for.

    Raises:
        UserError: none is, and yet a flag of tasks is given.
    """
    given = {"task_data": None, "shots": 0, "limit": 0, "instruction": "", "chat": False, "samples": 1}
    given |= dict.fromkeys(("temperature", "max_new_tokens", "results", "answers"))
    for name, default in given.items():
        if not options.task and getattr(options, name) != default:
            raise UserError(f"--{name} is of a task: give --task=WORD too")
    return bool(options.task)


def prepare(options: argparse.Namespace) -> Questions:
    """Return what is asked. No model is touched.

    Raises:
        UserError: a flag is out of its range, or the task's file is not there or not sound.
    """
    for name in OTHERS:
        if getattr(options, name, None):
            raise UserError(f"--{name} is of a text, not of a task")
    for name, low in {"shots": 0, "limit": 0, "samples": 1, "max_new_tokens": 1}.items():
        value = getattr(options, name)
        if value is not None and not low <= value < 2**31:
            raise UserError(f"--{name}={value} must be at least {low}")
    from juliagpt_jax.data.tasks import build

    task = build.find(options.task)
    if options.samples > 1 and task.metric not in ("exact", "number"):
        raise UserError(f"--samples={options.samples}: answers to {options.task} are not written and marked as right")
    heat = options.temperature if options.temperature is not None else 0.8 if options.samples > 1 else 0.0
    if heat == 0 and options.samples > 1:
        raise UserError("--temperature=0 writes the same answer in every sample")
    rule = Rule(greedy=True) if heat == 0 else Rule(heat)

    from juliagpt_jax.evaluation.tasks.prompting import shots_of

    asked, shots = build.read(options.task, options.split, options.task_data), []
    if options.shots:
        shots = shots_of(build.read(options.task, "train", options.task_data), options.shots, options.seed)
        shown = {shot.prompt for shot in shots}
        asked = [example for example in asked if example.prompt not in shown]  # of a file that is every part
    if task.metric == "rouge":
        from juliagpt_jax.evaluation.tasks.metrics import rouge_scores

        rouge_scores(asked[:1], ["-"])  # without the library it fails now
    return Questions(task, asked[: options.limit or None], shots, rule)


def answer(options: argparse.Namespace, questions: Questions) -> Answered:
    """Open the model and let it answer.

    Raises:
        UserError, StorageError, NumericalError: as `open_model`, or the answers' metrics are not finite.
    """
    from juliagpt_jax.inference.opened import open_model
    from juliagpt_jax.store.workdir import find

    ode = command.ode_values(options) if hasattr(options, "ode_steps") else {}
    laid = getattr(options, "adapter", None)
    found = find(Path(options.workdir), options.checkpoint, options.averaged, ode, "decoder t5", laid)
    encodes, metric = found.config.model.kind == "t5", questions.task.metric
    if encodes and (options.chat or metric == "last_word"):
        raise UserError(f"{options.workdir} is a T5, which answers questions: neither --chat nor {options.task} is so")
    devices.prepare(found.config)

    from juliagpt_jax.evaluation.tasks import answers, metrics
    from juliagpt_jax.evaluation.tasks.prompting import Prompter

    opened, (task, asked, shots, rule) = open_model(found, options.precision), questions
    room = opened.model.config.context + (not encodes and metric in ("accuracy", "last_word"))  # the last is not read
    unknown, begun = getattr(options, "unknown", "error"), time.perf_counter()
    most = options.max_new_tokens or answers.most_tokens(opened.tokenizer, task, asked)
    how = options.instruction, options.chat, encodes, unknown
    prompter = Prompter(opened.tokenizer, task, room, most, shots, *how)
    given = answers.answer(opened, prompter, asked, options.by, rule, options.samples, options.seed, _progress)
    values = metrics.METRICS[task.metric](task, asked, given)
    wrong = [name for name, value in values.items() if not abs(value.value) < float("inf")]
    if wrong:
        raise NumericalError(f"{options.workdir}: {', '.join(wrong)}: not finite; the model's logits are not")
    return Answered(questions, opened, prompter, given, values, time.perf_counter() - begun)


def evaluate(options: argparse.Namespace) -> None:
    """Ask, print the metrics, and add a line to the results."""
    questions = prepare(options)
    results = Path(options.results) if options.results else Path(options.workdir) / "tasks.jsonl"
    if not options.results and not Path(options.workdir).is_dir():
        results = None
    for file in (results if options.results else None, Path(options.answers) if options.answers else None):
        if file:
            _append(file, [], "a")  # a place where nothing can be written is told now
    answered = answer(options, questions)

    from juliagpt_jax.evaluation.tasks.baselines import beside

    prompter, rows = answered.prompter, beside(questions.task, questions.asked)
    how = f"{len(questions.shots)} shots" + (", in the chat template" if options.chat else "")
    print(f"{options.task}, {options.split}: {len(questions.asked):,} questions, {how}, {answered.seconds:.0f} s")
    _table("", answered.values)
    for name, values in rows.items():
        _table(f"{name}: ", values)
    for note in notes(prompter, answered.answers):
        print(f"note: {note}", file=sys.stderr)
    row = describe(options, answered) | {"beside": {name: _plain(values) for name, values in rows.items()}}
    if results:
        _append(results, [row], "a")
    if options.answers:
        _append(Path(options.answers), told(questions, answered.answers), "w")
    if options.json:
        command.print_json(row)


def notes(prompter: "Prompter", answers: "Chosen | Written") -> list[str]:
    """Return what a reader of the metrics should know of the prompts and the answers."""
    found = []
    if prompter.dropped or prompter.cut:
        said = f"{prompter.dropped} prompts lost shots and {prompter.cut} their beginning"
        found.append(f"{said}: they are too long for the context")
    texts = [text for each in getattr(answers, "texts", []) for text in each]
    if empty := sum(not text.strip() for text in texts):
        said = f"{empty} of {len(texts)} answers are empty: the model wrote {prompter.task.stop!r} or its own end first"
        found.append(f"{said}; --shots=2 shows it the form, --chat asks in its own")
    return found


def analyse(options: argparse.Namespace) -> None:
    """Ask, and write a page on the answers: TASK.md and TASK.json with its plots into --out."""
    if len(options.workdir) > 1:
        raise UserError("--task: of one run at a time; give --workdir once")
    options.workdir = options.workdir[0]
    questions, out = prepare(options), Path(options.out)
    files.make_folder(out)
    answered = answer(options, questions)

    from juliagpt_jax.evaluation.tasks import answers, page
    from juliagpt_jax.evaluation.tasks.baselines import beside

    word, task, asked = options.task, questions.task, questions.asked
    rows = {name: _plain(values) for name, values in beside(task, asked).items()}
    row = describe(options, answered) | {"beside": rows}
    given = answered.answers
    if task.metric == "last_word":  # scored; here what is said instead of the word is wanted too
        few = dataclasses.replace(answered.prompter, room=answered.prompter.room - 1, most=WORD)
        given = answers.write(answered.opened, few, asked, Rule(greedy=True), told=_progress)
    judged = page.judge(word, task, asked, given)
    plots = page.draw(word, judged, given, out)
    plots += page.draw_map(word, answered.opened, answered.prompter.prompt(asked[0]), out)
    files.write_json(out / f"{word}.json", row | {"kinds": page.counts(judged)})
    files.write_text(out / f"{word}.md", page.page(word, row, answered.values, judged, plots))
    print(f"{out}: {', '.join([f'{word}.md', f'{word}.json', *plots])}")
    if options.json:
        command.print_json(row)


def describe(options: argparse.Namespace, answered: Answered) -> dict[str, Any]:
    """Return a row of results: the metrics with their intervals, and all that they depend on."""
    questions, run = answered.questions, answered.opened.run
    each = repr([(example.prompt, example.answer) for example in questions.asked])
    return {
        "task": options.task,
        "split": options.split,
        "questions": len(questions.asked),
        "questions_sha256": hashlib.sha256(each.encode("utf-8", "surrogatepass")).hexdigest(),
        "values": _plain(answered.values),
        "shots": len(questions.shots),
        "instruction": options.instruction,
        "chat": options.chat,
        "by": options.by,
        "samples": options.samples,
        "temperature": 0.0 if questions.rule.greedy else questions.rule.temperature,
        "max_new_tokens": answered.prompter.most,
        "seed": options.seed,
        "prompts_without_all_shots": answered.prompter.dropped,
        "prompts_cut": answered.prompter.cut,
        "workdir": options.workdir,
        "adapter": getattr(options, "adapter", None),
        "step": run.step,
        "precision": answered.opened.precision,
        "seconds": answered.seconds,
    }


def told(questions: Questions, answers: "Chosen | Written") -> list[dict[str, Any]]:
    """Return every question with what was said."""
    from juliagpt_jax.evaluation.tasks.metrics import Written, probabilities

    rows = [{"prompt": example.prompt, "answer": example.answer} for example in questions.asked]
    if isinstance(answers, Written):
        verify = questions.task.verify
        for row, example, texts in zip(rows, questions.asked, answers.texts, strict=True):
            row |= {"said": texts} | ({"right": [verify(example, text) for text in texts]} if verify else {})
        return rows
    chances = probabilities(answers.scores())
    for row, example, own, logs in zip(rows, questions.asked, chances, answers.logs, strict=True):
        if example.choices:
            row |= {"said": example.choices[int(own.argmax())], "probabilities": own.tolist()}
        row |= {"logs": logs.tolist()}
    return rows


def _plain(values: "dict[str, Value]") -> dict[str, list[float]]:
    return {name: list(value) for name, value in values.items()}


def _table(before: str, values: "dict[str, Value]") -> None:
    for name, (value, low, high) in values.items():
        print(f"  {before}{name.replace('_', ' '):<28} {value:8.4f}   95%: {low:.4f} .. {high:.4f}")


def _append(file: Path, rows: list[dict[str, Any]], mode: str) -> None:
    lines = "".join(json.dumps(command.finite(row)) + "\n" for row in rows)
    try:
        with open(file, mode, encoding="utf-8") as handle:
            handle.write(lines)
    except OSError as error:
        raise StorageError(f"{file}: cannot be written: {error.strerror}") from error


def _progress(done: int, of: int) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"\r{done:,} of {of:,} answers", end="\n" if done == of else "", file=sys.stderr, flush=True)
