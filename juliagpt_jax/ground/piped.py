"""Lines that are piped into a command."""

import contextlib
import select
import sys

from juliagpt_jax.ground.errors import UserError

PATIENCE = 1.0  # seconds for which a silent stdin is waited for without a word


def lines() -> list[str]:
    """Return the lines of stdin that are not blank, when something is piped in; one that stays open is waited for, and
    after a second this is said.

    Raises:
        UserError: they are not in the encoding that the system has.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return []
    with contextlib.suppress(OSError, ValueError):  # what `select` does not know is a file, which is there
        if not select.select([sys.stdin], [], [], PATIENCE)[0]:
            print("note: reading prompts from stdin, one a line, to its end; --prompt=TEXT gives one", file=sys.stderr)
    try:
        return [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"stdin: byte {error.start} of the prompts is not {error.encoding}") from error
