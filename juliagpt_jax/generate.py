"""Write text with a trained model.

python -m juliagpt_jax.generate --workdir=runs/tiny --prompt="the nature of" --max_new_tokens=200 --temperature=0.8
"""

import argparse
import contextlib
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from juliagpt_jax.ground import command, devices
from juliagpt_jax.ground.errors import UserError

PATIENCE = 1.0  # seconds for which a silent stdin is waited for without a word

if TYPE_CHECKING:
    from juliagpt_jax.inference.opened import Opened


def parser() -> command.Parser:
    flags = command.Parser(
        "generate", "Write text with a trained model. Without --prompt, each line of stdin is a prompt."
    )
    flags.add_run_flags()
    flags.add_argument("--prompt", action="append", metavar="TEXT", help="may be given several times")
    flags.add_argument("--max_new_tokens", type=int, default=200, metavar="N")
    flags.add_argument("--temperature", type=float, default=0.8)
    flags.add_argument("--top_k", type=int, default=0, metavar="K", help="draw from the K most likely; 0: all")
    flags.add_argument("--top_p", type=float, default=1.0, metavar="P", help="draw from the likeliest that make up P")
    flags.add_argument("--greedy", action="store_true", help="always the most likely token")
    flags.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before it; several times: any")
    flags.add_argument("--ignore_eos", action="store_true", help="go on behind the token that ends a text")
    flags.add_argument("--num_samples", type=int, default=1, metavar="N", help="texts for each prompt")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--unknown", choices=["error", "skip", "fold"], default="error", help=command.UNKNOWN)
    flags.add_argument("--strict", action="store_true", help="refuse prompt + new tokens beyond the context")
    flags.add_window_flags()
    flags.add_argument(
        "--draft", metavar="DIR", help="workdir of a smaller model that guesses ahead: same distribution, fewer steps"
    )
    flags.add_argument("--draft_tokens", type=int, default=4, metavar="N", help="guesses a round")
    flags.add_precision_flag()
    flags.add_ode_flags()
    flags.add_argument("--json", action="store_true", help="print one JSON object instead of streaming")
    return flags


def main(options: argparse.Namespace) -> None:
    if options.max_new_tokens < 1 or options.num_samples < 1:
        raise UserError("--max_new_tokens and --num_samples must be at least 1")
    ode = command.ode_values(options)
    command.check_seed(options.seed)

    from juliagpt_jax.inference.opened import open_model
    from juliagpt_jax.inference.rule import Rule
    from juliagpt_jax.inference.window import Window
    from juliagpt_jax.store.workdir import find

    rule = Rule(options.temperature, options.top_k, options.top_p, options.greedy)
    found = find(Path(options.workdir), options.checkpoint, options.averaged, ode)
    context = found.config.model.context
    window = Window(context, *command.window_values(options))
    window.check()
    if window.evict and options.draft:
        raise UserError("--evict does not go with --draft: what a wrong guess has pushed out cannot be taken back")
    smaller = find(Path(options.draft)) if options.draft else None
    asked = options.prompt or _piped()
    devices.prepare(found.config.mesh)

    from juliagpt_jax.inference.generate import Generator
    from juliagpt_jax.inference.speculative import SpeculativeGenerator
    from juliagpt_jax.inference.stops import stream_texts

    opened = open_model(found, options.precision)
    begin = opened.tokenizer.prompt("").ids
    texts = asked or [""]
    texts = [text for text in texts for _ in range(options.num_samples)]
    prompts = [opened.tokenizer.prompt(text, options.unknown).ids for text in texts]
    texts = [text or opened.tokenizer.decode(begin) for text in texts]
    longest = max(len(prompt) for prompt in prompts)
    if longest + options.max_new_tokens > context:
        says = f"{longest} of the prompt + {options.max_new_tokens} new tokens are more than the context of {context}"
        if options.strict:
            raise UserError(f"--strict: {says}")
        print(f"note: {says}: the model sees {window.says} at any time", file=sys.stderr)

    model, params = opened.model, opened.params
    if smaller is None:
        generator = Generator(model, params, window.sinks, evict=window.evict)
    else:
        draft = open_model(smaller, model.precision)
        _check_draft(opened, draft)
        few = options.draft_tokens
        generator = SpeculativeGenerator(model, params, draft.model, draft.params, few, window.sinks)
    end = None if options.ignore_eos else opened.tokenizer.eos
    drawn = options.max_new_tokens, rule, options.seed
    stream = stream_texts(generator, opened.tokenizer, prompts, *drawn, options.stop, end)
    if options.json or len(texts) > 1:
        pieces = list(stream)
        new = ["".join(piece[row][0] for piece in pieces) for row in range(len(texts))]
        if options.json:
            stopped = [end for _, end in pieces[-1]]
            samples = zip(texts, new, stopped, strict=True)
            values = {
                "samples": [{"prompt": text, "text": own, "stopped": end} for text, own, end in samples],
                "step": opened.run.step,
                "compilations": generator.compilations,
            }
            if isinstance(generator, SpeculativeGenerator):
                values["accepted"] = generator.accepted / max(1, generator.proposed)
            command.print_json(values)
            return
        for number, (text, continued) in enumerate(zip(texts, new, strict=True), 1):
            print(f"--- {number} of {len(texts)}\n{text if asked else ''}{continued}")
        return
    print(texts[0] if asked else "", end="", flush=True)
    for ((text, _),) in stream:
        print(text, end="", flush=True)
    print()


def _check_draft(opened: "Opened", draft: "Opened") -> None:
    """Refuse a draft of other tokens; note one of a shorter context."""
    name = f"--draft={draft.run.workdir}"
    if draft.tokenizer.to_dict() != opened.tokenizer.to_dict():
        raise UserError(f"{name}: its tokenizer is not the one of {opened.run.workdir}")
    mine, own = opened.run.config.model.context, draft.run.config.model.context
    if own < mine:
        print(f"note: {name} was trained on {own} tokens: beyond, it guesses badly", file=sys.stderr)


def _piped() -> list[str]:
    """Return the lines of stdin that are not blank, when something is piped in; one that stays open is waited for, and
    after a second this is said."""
    if sys.stdin is None or sys.stdin.isatty():
        return []
    with contextlib.suppress(OSError, ValueError):  # what `select` does not know is a file, which is there
        if not select.select([sys.stdin], [], [], PATIENCE)[0]:
            print("note: reading prompts from stdin, one a line, to its end; --prompt=TEXT gives one", file=sys.stderr)
    try:
        return [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"stdin: byte {error.start} of the prompts is not {error.encoding}") from error


if __name__ == "__main__":
    command.run(parser(), main)
