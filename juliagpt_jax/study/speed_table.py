"""Speeds side by side: a row for each batch and precision, measured in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from juliagpt_jax.ground.errors import UserError

# Columns of the table: key, title, in which unit.
COLUMNS = [
    ("precision", "", 1),
    ("batch", "", 1),
    ("tokens_per_s", "tokens/s", 1),
    ("seconds_500", "500 tokens, s", 1),
    ("first_token_s", "first, ms", 1e-3),
    ("share_of_limit", "of limit, %", 1e-2),
    ("weight_bytes", "weights, MB", 1e6),
    ("decode_memory_bytes", "decoding, MB", 1e6),
    ("run_peak_memory_bytes", "peak, MB", 1e6),
    ("compile_s", "compile, s", 1),
    ("eager_tokens_per_s", "eager, tokens/s", 1),
]


def measured(flags: Sequence[str], batches: Sequence[int], words: Sequence[str]) -> list[dict[str, Any]]:
    """Run the command benchmark once for each precision and batch, so that each has its own peak memory.

    Args:
        flags: what all runs are given.
        words: precisions; "" for the config's own.

    Raises:
        UserError: no row could be measured; the reason of the first.
    """
    rows = []
    for word in words:
        for batch in batches:
            own = [f"--batch={batch}", *([f"--precision={word}"] if word else [])]
            call = [sys.executable, "-m", "juliagpt_jax.benchmark", *flags, *own, "--json"]
            done = subprocess.run(call, capture_output=True, encoding="utf-8")
            last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1:]
            failed = {"batch": batch, "precision": word, "error": "".join(last) or f"exit code {done.returncode}"}
            rows.append(json.loads(last[0]) if done.returncode == 0 else failed)
    if all("error" in row for row in rows):
        raise UserError(rows[0]["error"])
    return rows


def layout(rows: list[dict[str, Any]]) -> str:
    """Lay rows out as a table of COLUMNS, those that a row has."""
    columns = [column for column in COLUMNS if any(column[0] in row for row in rows)]
    lines = [" | ".join(f"{title or key:>14}" for key, title, _ in columns)]
    for row in rows:
        if "error" in row:
            lines.append(f"{row['precision']:>14} | {row['batch']:>14} | FAILED: {row['error']}")
            continue
        shown = [
            row[key] if unit == 1 and isinstance(row[key], str | int) else (row[key] or 0) / unit
            for key, _, unit in columns
        ]
        lines.append(" | ".join(f"{v:>14}" if isinstance(v, str | int) else f"{v:>14,.4g}" for v in shown))
    return "\n".join(lines)
