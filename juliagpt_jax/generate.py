"""Write text with a trained model.

python -m juliagpt_jax.generate --workdir=runs/tiny --prompt="the nature of" --max_new_tokens=200 --temperature=0.8
"""

import argparse
import sys
from pathlib import Path

from juliagpt_jax.ground import command, devices, piped
from juliagpt_jax.ground.errors import UserError, about


def parser() -> command.Parser:
    flags = command.Parser(
        "generate", "Write text with a trained model. Without --prompt, each line of stdin is a prompt."
    )
    flags.add_run_flags(adapter=True)
    flags.add_argument("--prompt", action="append", metavar="TEXT", help="may be given several times")
    flags.add_argument("--max_new_tokens", type=int, default=200, metavar="N")
    flags.add_argument("--temperature", type=float, default=0.8)
    flags.add_argument("--top_k", type=int, default=0, metavar="K", help="draw from the K most likely; 0: all")
    flags.add_argument("--top_p", type=float, default=1.0, metavar="P", help="draw from the likeliest that make up P")
    flags.add_argument("--greedy", action="store_true", help="always the most likely token")
    flags.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before it; several times: any")
    flags.add_argument("--ignore_eos", action="store_true", help="write on behind the token that ends a text")
    flags.add_argument("--chat", action="store_true", help="answer: each prompt is what a user says; none: a dialogue")
    flags.add_argument("--system", metavar="TEXT", help="with --chat: what the model is told before all else")
    flags.add_argument("--grammar", metavar="FORM", help="hold to a form: number, integer, labels:a,b or json:SCHEMA")
    flags.add_argument("--calculator", action="store_true", help="fill in results: <<2+3= becomes <<2+3=5>>")
    flags.add_argument("--num_samples", type=int, default=1, metavar="N", help="texts for each prompt")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--unknown", choices=["error", "skip", "fold"], default="error", help=command.UNKNOWN)
    flags.add_argument("--strict", action="store_true", help="refuse prompt + new tokens beyond the context")
    flags.add_window_flags()
    flags.add_argument(
        "--draft", metavar="DIR", help="smaller model that guesses ahead: same distribution, fewer steps"
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

    from juliagpt_jax.data import chat
    from juliagpt_jax.inference.opened import open_model
    from juliagpt_jax.inference.rule import Rule
    from juliagpt_jax.inference.window import Window
    from juliagpt_jax.search import forms
    from juliagpt_jax.store.workdir import find

    form = forms.asked(options.grammar, options.calculator, bool(options.draft), bool(options.stop))
    rule = Rule(options.temperature, options.top_k, options.top_p, options.greedy)
    kinds = "decoder" if options.chat or options.draft else "decoder t5"
    found = find(Path(options.workdir), options.checkpoint, options.averaged, ode, kinds, options.adapter)
    context, answers = found.config.model.context, found.config.model.kind == "t5"
    window = Window(context, *command.window_values(options))
    window.check()
    if window.evict and options.draft:
        raise UserError("--evict does not go with --draft: what a wrong guess has pushed out cannot be taken back")
    smaller = find(Path(options.draft)) if options.draft else None
    if options.system is not None and not options.chat:
        raise UserError("--system is of a conversation: --chat")
    if options.chat and found.tokenizer:
        with about("--chat"):
            chat.check(found.tokenizer)
    dialogue = options.chat and not options.prompt
    asked = options.prompt or ([] if dialogue else piped.lines())
    devices.prepare(found.config)

    from juliagpt_jax.inference import conversation
    from juliagpt_jax.inference.generate import Generator, slots_for
    from juliagpt_jax.inference.speculative import SpeculativeGenerator, check_draft
    from juliagpt_jax.inference.stops import stream_texts
    from juliagpt_jax.search import guides

    opened = open_model(found, options.precision)
    ends = () if options.ignore_eos else opened.stops
    guided = guides.guided(opened.tokenizer, form, options.calculator, f"--grammar={options.grammar}")
    if dialogue:
        return conversation.hold(opened, rule, window, options, ends, guided)
    texts = asked or [""]
    texts = [text for text in texts for _ in range(options.num_samples)]
    if options.chat:
        prompts = [conversation.prompt(opened, text, options) for text in texts]
    elif answers:
        prompts = [opened.tokenizer.source(text, options.unknown) for text in texts]
    else:
        prompts = [opened.tokenizer.prompt(text, options.unknown).ids for text in texts]
    texts = [text or ("" if answers else opened.tokenizer.decode(opened.tokenizer.prompt("").ids)) for text in texts]
    longest = max(len(prompt) for prompt in prompts)
    if answers:
        if options.strict and max(longest, options.max_new_tokens + 1) > context:
            raise UserError(f"--strict: a prompt of {longest} tokens or its answer is beyond the context of {context}")
    elif longest + options.max_new_tokens > context:
        says = f"{longest} of the prompt + {options.max_new_tokens} new tokens are more than the context of {context}"
        if options.strict:
            raise UserError(f"--strict: {says}")
        print(f"note: {says}: the model sees {window.says} at any time", file=sys.stderr)

    model, params = opened.model, opened.params
    if smaller is None:
        slots = slots_for(model, longest + options.max_new_tokens, window)
        generator = Generator(model, params, window.sinks, slots, window.evict)
    else:
        draft = open_model(smaller, model.precision)
        check_draft(opened, draft)
        few = options.draft_tokens
        generator = SpeculativeGenerator(model, params, draft.model, draft.params, few, window.sinks)
    told = (options.max_new_tokens, rule, options.seed, options.stop, ends, guided)
    stream = stream_texts(generator, opened.tokenizer, prompts, *told)
    echo = asked and not options.chat and not answers
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
            print(f"--- {number} of {len(texts)}\n{text if echo else ''}{continued}")
        return
    print(texts[0] if echo else "", end="", flush=True)
    for ((text, _),) in stream:
        print(text, end="", flush=True)
    print()


if __name__ == "__main__":
    command.run(parser(), main)
