"""The frame of every command: flags in, one call, an exit code out. Imports nothing heavy, so that --help answers at
once."""

import argparse
import io
import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from juliagpt_jax.ground import hosts, memory
from juliagpt_jax.ground.errors import CommandError, StorageError, UserError
from juliagpt_jax.ground.words import near

UNKNOWN = "characters the tokenizer lacks; fold: as it has them, small or composed otherwise"


class Parser(argparse.ArgumentParser):
    """Mistakes are `UserError`s; every command has --debug."""

    def __init__(self, module: str, describe: str):
        super().__init__(prog=f"python -m juliagpt_jax.{module}", description=describe, allow_abbrev=False)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str) -> NoReturn:
        raise UserError(message)

    def add_run_flags(self, adapter: bool = False) -> None:
        """Add what says which weights of which run a command reads: the arguments of `store.workdir.find`.

        Args:
            adapter: adapters can be laid on it.
        """
        self.add_argument("--workdir", required=True, metavar="DIR", help="of the trained model")
        self.add_argument("--checkpoint", default="newest", help="newest, best, or a step")
        self.add_argument(
            "--averaged", action="store_true", help="use the averaged weights, if training kept an average"
        )
        if adapter:
            says = "adapters to lay on the model: the workdir of a run that trained them, or a folder in peft's form"
            self.add_argument("--adapter", metavar="DIR", help=says)

    def add_precision_flag(self) -> None:
        """Add --precision, a word of models/precision.py."""
        words = ["f32", "bf16", "f16", "int8", "ternary"]  # written out: --help comes before JAX is imported
        self.add_argument("--precision", choices=words, help="default: as trained, or as packed")

    def add_window_flags(self) -> None:
        """Add what says which tokens stay in sight of a text that is longer than the context; `window_values` reads
        it."""
        says = "past the context, keep the text's first K tokens in sight; default 0, with --evict 4"
        self.add_argument("--sinks", type=int, metavar="K", help=says)
        says = "past the context, drop the oldest token of the cache for each new one, instead of reading half again"
        self.add_argument("--evict", action="store_true", help=says)

    def add_ode_flags(self) -> None:
        """Add what says on which steps a model with ODE layers is solved; `ode_values` reads it."""
        self.add_argument("--ode_steps", type=int, metavar="N", help="solve ODE layers in N equal steps")
        self.add_argument("--ode_rtol", type=float, metavar="R", help="on the schedule for this tolerance")
        self.add_argument("--ode_max_steps", type=int, metavar="N", help="where a tolerance gives up")
        self.add_argument("--ode_solver", metavar="NAME", help="with another solver of models/ode.py")

    def parse(self, arguments: list[str], overrides: bool = False) -> argparse.Namespace:
        """Parse; with `overrides`, collect --config.KEY=VALUE as `options.overrides`, a list of "KEY=VALUE".

        Raises:
            UserError: a flag that does not exist (with near names) or has no proper value.
        """
        options, rest = self.parse_known_args(arguments)
        for action in self._actions:
            if action.metavar in ("DIR", "FILE", "PATH"):
                setattr(options, action.dest, _at_home(getattr(options, action.dest)))
        options.overrides = [r.removeprefix("--config.") for r in rest if overrides and r.startswith("--config.")]
        for override in options.overrides:
            if "=" not in override:
                raise UserError(f"--config.{override} needs a value: --config.{override}=VALUE")
        for flag in rest:
            if not (overrides and flag.startswith("--config.")):
                names = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
                raise UserError(f"no flag is called {flag.partition('=')[0]}{near(flag.partition('=')[0], names)}")
        return options


def _at_home(value: Any) -> Any:
    """Return a path, or several, with ~ as the home folder: a shell leaves it in --flag=~/x as it is."""
    if isinstance(value, list):
        return [_at_home(one) for one in value]
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~") else value


def ode_values(options: argparse.Namespace) -> dict[str, Any]:
    """Return the knobs of `config.model.ode` that the flags of `add_ode_flags` give: {"steps": 4}.

    Raises:
        UserError: one is out of range, or two contradict each other.
    """
    if options.ode_rtol is not None and not 0 < options.ode_rtol < 1:
        raise UserError(f"--ode_rtol={options.ode_rtol:g} must be above 0 and below 1")
    if options.ode_steps is not None and not 1 <= options.ode_steps <= 1024:
        raise UserError(f"--ode_steps={options.ode_steps} must be in 1 .. 1024")
    if options.ode_steps is not None and options.ode_rtol is not None:
        raise UserError("--ode_steps and --ode_rtol: give one of them")
    given = {name: getattr(options, f"ode_{name}") for name in ("solver", "steps", "rtol", "max_steps")}
    return {name: value for name, value in given.items() if value is not None}


def window_values(options: argparse.Namespace) -> tuple[int, bool]:
    """Return the number of first tokens that stay, and whether the cache evicts, by the flags of
    `add_window_flags`."""
    return (4 if options.evict else 0) if options.sinks is None else options.sinks, options.evict


def check_seed(seed: int) -> None:
    """Raise a UserError where --seed is none."""
    if not 0 <= seed < 2**32:
        raise UserError("--seed must be in [0, 2^32)")


def run(parser: Parser, body: Callable[[argparse.Namespace], None], overrides: bool = False) -> NoReturn:
    """Parse the command line, call `body`, and leave with the exit code that the failure, if any, has."""
    debug = "--debug" in sys.argv
    sys.stdout = _output(1, sys.stdout)
    sys.stderr = _output(memory.supervise(parser.prog.split(".")[-1]), sys.stderr)
    try:
        body(parser.parse(sys.argv[1:], overrides))
        sys.stdout.flush()
    except CommandError as error:
        if debug:
            traceback.print_exc()
        print(f"{parser.prog.split('.')[-1]}: {' '.join(str(error).split())}", file=sys.stderr)
        _leave(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        says, code = _one_line(error, overrides)
        if not code:
            raise
        if debug:
            traceback.print_exc()
        print(f"{parser.prog.split('.')[-1]}: {says}", file=sys.stderr)
        _leave(code)
    sys.exit(0)


def _leave(code: int) -> NoReturn:
    """Leave with an exit code; at once where memory may have run out under a limit, since to tidy up can take more, and
    where other hosts would be waited for."""
    if hosts.several() or (code == StorageError.exit_code and memory.limit()[0]):
        sys.stdout.flush()
        sys.stderr.flush()
        hosts.tidy()
        os._exit(code)
    sys.exit(code)


def _one_line(error: Exception, trains: bool) -> tuple[str, int]:
    """Say what an exception of a library means to the user, with its exit code; 0 for one that is a fault of ours."""
    first = next(iter(str(error).splitlines()), type(error).__name__)
    short = next((line for line in str(error).splitlines() if memory.SHORT.search(line)), "")
    if short and isinstance(error, ImportError | RuntimeError) and not memory.ran_out(error):
        return f"out of memory while it starts: {short.strip()}; end other programs, or raise the limit (ulimit -v)", 4
    out_of_memory = bool(short) or memory.ran_out(error)
    if failed := _start_of_jax(error):
        if out_of_memory or "out of memory" in str(error).lower():
            return f"JAX does not start: {first}; another process has the device's memory: end it, or wait", 4
        if failed == "import":
            return f"JAX cannot be imported: {first}; pip install -c constraints.txt has versions that go together", 2
        asked = os.environ.get("JAX_PLATFORMS")
        why = f"no device of JAX_PLATFORMS={asked} is there" + (f" ({first})" if str(error) else "") if asked else first
        return f"JAX does not start: {why}; JAX_PLATFORMS=cpu runs on the processor", 2
    if out_of_memory:
        ways = "a larger --config.train.accumulate, --config.train.remat=true or a smaller --config.train.batch_size"
        return f"out of memory: {first}; try {ways if trains else 'a smaller model, text or batch'}", 4
    return (f"storage: {error}", 4) if isinstance(error, OSError) else ("", 0)


def _start_of_jax(error: Exception) -> str:
    """Return "import" of an exception that JAX raised while it was imported, "device" while it looked for its devices,
    else "". Where it came from tells this: classes and texts vary."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        if frame.f_code.co_name == "<module>" and module.partition(".")[0] in ("jax", "jaxlib"):
            return "import"
        if module == "jax._src.xla_bridge":
            return "device"
    return ""


class _Pipe(io.FileIO):
    """A file descriptor that drops what is written once its reader has left; any other failure is raised, once."""

    failed = False

    def write(self, data: Any) -> int:
        try:
            return len(data) if self.failed else super().write(data) or 0
        except OSError as error:
            self.failed = True
            if isinstance(error, BrokenPipeError):
                return len(data)
            raise


def _output(descriptor: int, stream: Any) -> Any:
    """Wrap a stream so that neither a closed end nor a character outside the terminal's encoding ends the command."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    buffer = io.BufferedWriter(_Pipe(descriptor, "w", closefd=False))
    by_line = descriptor != 1 or stream.isatty()
    return io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=by_line)


def print_json(values: dict[str, Any]) -> None:
    """One JSON object on the last line of stdout; what is not a finite number is null."""
    print(json.dumps(finite(values)), flush=True)


def finite(value: Any) -> Any:
    """Return a nested value with null for every float that JSON cannot hold."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def duration(seconds: float) -> str:
    """Say a length of time for a reader: "3.2 hours"."""
    for size, unit in [(86_400, "days"), (3_600, "hours"), (60, "minutes")]:
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return "1 second" if round(seconds) == 1 else f"{seconds:.0f} seconds"
