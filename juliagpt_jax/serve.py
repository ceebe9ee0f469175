"""Serve a trained model over HTTP: OpenAI's completions, and a page to write with at /.

python -m juliagpt_jax.serve --workdir=runs/tiny [--port=8000] [--rows=8]
"""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

from juliagpt_jax.ground import command, devices, memory
from juliagpt_jax.ground.errors import StorageError, UserError

# The largest sensible value of each flag that is a number, and the smallest.
RANGES = {
    "port": (0, 65_535),
    "rows": (1, 1_024),
    "queue": (0, 1_000_000),
    "block": (1, 1_024),
    "context": (2, 10_000_000),
    "max_tokens": (1, 10_000_000),
    "max_prompt": (1, 10_000_000),
    "max_body": (1, 1_000_000_000),
    "drain": (0, 86_400),
}


def parser() -> command.Parser:
    flags = command.Parser("serve", "Serve a trained model over HTTP; SIGTERM and Ctrl-C finish what was taken.")
    flags.add_run_flags()
    flags.add_argument("--host", default="127.0.0.1", help="whom to answer; 0.0.0.0: everyone who reaches this machine")
    flags.add_argument("--port", type=int, default=8000, help="0: a free one")
    flags.add_argument("--name", help="of the model, as clients ask for it; default: the workdir's")
    flags.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="a run of adapters, or a folder in peft's form: a model that clients ask for by NAME; several times",
    )
    flags.add_argument("--allow_host", action="append", default=[], metavar="NAME", help="another name it is asked by")
    flags.add_argument(
        "--origin", action="append", default=[], metavar="URL", help="whose pages may ask too; *: everyone's"
    )
    flags.add_argument("--verifier", metavar="DIR", help="workdir of a verifier, for requests that ask to `verify`")
    flags.add_argument("--rows", "--slots", type=int, default=8, metavar="B", help="requests that share a step")
    flags.add_argument("--queue", type=int, default=64, metavar="N", help="requests that may wait; more get 429")
    flags.add_argument("--block", type=int, default=8, metavar="N", help="tokens between two visits to the host")
    flags.add_argument("--context", type=int, metavar="N", help="tokens of a text in sight; default: the model's")
    flags.add_argument("--max_tokens", type=int, default=4096, metavar="N", help="that a request may ask for")
    flags.add_argument("--max_prompt", type=int, default=8192, metavar="N", help="tokens of a prompt")
    flags.add_argument("--max_body", type=int, default=1_000_000, metavar="N", help="bytes of a request")
    flags.add_argument(
        "--drain", type=int, default=30, metavar="S", help="seconds in which a stop finishes what was taken"
    )
    flags.add_window_flags()
    flags.add_argument("--unknown", choices=["error", "skip", "fold"], default="error", help=command.UNKNOWN)
    flags.add_precision_flag()
    flags.add_ode_flags()
    return flags


def main(options: argparse.Namespace) -> None:
    for flag, (low, high) in RANGES.items():
        if getattr(options, flag) is not None and not low <= getattr(options, flag) <= high:
            raise UserError(f"--{flag}={getattr(options, flag)} must be in {low} .. {high}")
    ode, workdir = command.ode_values(options), Path(options.workdir)

    from juliagpt_jax.inference.opened import lend, open_model
    from juliagpt_jax.inference.window import Window
    from juliagpt_jax.store.workdir import find

    found = find(workdir, options.checkpoint, options.averaged, ode)
    most = found.config.model.context
    context = options.context or most
    if context > most:
        raise UserError(f"--context={context}: the model was made for {most} tokens")
    if context < most and set(found.config.model.mixer.split()) != {"attention"}:
        raise UserError(f"--context={context}: model.mixer={found.config.model.mixer} is made for {most} tokens")
    window = Window(context, *command.window_values(options))
    window.check()
    folders = _folders(options.adapter, options.name or workdir.resolve().name)
    devices.prepare(found.config)

    try:
        from juliagpt_jax.serving import server
    except ModuleNotFoundError as error:
        raise UserError(f"needs FastAPI and uvicorn ({error}): pip install 'juliagpt-jax[serve]'") from error

    from juliagpt_jax.inference.generate import Generator
    from juliagpt_jax.inference.judging import open_judge
    from juliagpt_jax.models import parameters
    from juliagpt_jax.search.verifying import Verifier
    from juliagpt_jax.serving.asked import Limits
    from juliagpt_jax.serving.door import origins_of
    from juliagpt_jax.serving.engine import Engine

    origins = origins_of(options.origin)
    with server.bind(options.host, options.port) as listener:  # before the model is read, which takes longer
        opened, stacked = lend(open_model(found, options.precision), folders)
        name, count = options.name or workdir.resolve().name, parameters.count(opened.run.params)
        also = f", adapters {', '.join(folders)}" if folders else ""
        rows = f"{options.rows} rows of {context} tokens"
        about = f"{name}: step {opened.run.step}, {count:,} parameters, {rows}, {opened.precision}{also}"
        try:
            generator = Generator(opened.model, opened.params, window.sinks, context, window.evict)
            queue = options.rows, options.queue, options.block
            engine = Engine(generator, opened.tokenizer, *queue, adapters=stacked)
            engine.batch.compile()
        except Exception as error:
            if not memory.ran_out(error):
                raise
            says = next(iter(str(error).splitlines()), "no more")
            ways = "fewer --rows, a shorter --context or --precision=bf16"
            raise StorageError(f"out of memory ({says}) with {about}; try {ways}") from error
        verifier = Verifier(open_judge(Path(options.verifier))) if options.verifier else None
        texts = options.rows + options.queue
        limits = Limits(options.max_tokens, options.max_prompt, options.max_body, texts, engine.batch.slots)
        names = [options.host, socket.gethostname(), *options.allow_host]
        app = server.application(engine, name, limits, names, origins, options.unknown, verifier, [*folders])
        listener.listen(1024)
        host, port = listener.getsockname()[:2]
        address = f"[{host}]" if ":" in host else host
        print(f"{about}\nserving on http://{address}:{port}; Ctrl-C stops", flush=True)
        number = server.run(app, engine, listener, options.drain)
    print(f"serve: stopped by {signal.Signals(number).name}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(128 + number)  # all that was taken is answered; taking JAX down in good order would cost seconds more


def _folders(given: list[str], base: str) -> dict[str, Path]:
    """Return the folders of --adapter by name."""
    found: dict[str, Path] = {}
    for text in given:
        name, _, folder = text.rpartition("=")
        path = Path(folder).expanduser()
        name = name or path.resolve().name
        if not path.is_dir():
            raise UserError(f"--adapter={text}: no such folder")
        if name in (base, *found):
            raise UserError(f"--adapter={text}: another model is called {name}; --adapter=NAME={folder}")
        found[name] = path
    return found


if __name__ == "__main__":
    command.run(parser(), main)
