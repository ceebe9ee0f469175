"""Writes docs/knobs.md: every knob, from the dataclasses of juliagpt_jax/ground/knobs and configs/base.py.

python docs/knobs.py
"""

import ast
import dataclasses
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BASE = ROOT / "configs" / "base.py"
PAGE = ROOT / "docs" / "knobs.md"
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from juliagpt_jax.ground.config import KINDS, Config  # noqa: E402

BEGIN = """# Knobs

Every knob of a run. Any of them is a flag of `main`: `--config.GROUP.NAME=VALUE`, as in `--config.model.ode.steps=4`.
The defaults are those of `configs/base.py`; the other files in `configs/` change a few. A wrong name or value is
refused with the nearest right ones.

*Since* is the version of the package that first had the knob; a run from before it is read with the value in brackets.
*Was* is the name that a knob had in version 0.1: old workdirs, packed files and results are read under it, and on the
command line it is answered with the new one.

This page is written by `python docs/knobs.py`.
"""


def page() -> str:
    """Return the text of docs/knobs.md."""
    return "\n".join([BEGIN, *_groups(Config, "", _written(BASE.read_text(encoding="utf-8")))])


def _groups(group: type, prefix: str, written: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Yield a section for a group, then those of the groups in it."""
    fields = dataclasses.fields(group)
    knobs = [field for field in fields if not dataclasses.is_dataclass(field.type)]
    if knobs:
        moved = any(field.metadata["was"] for field in knobs)
        yield f"## {prefix.removesuffix('.') or 'Of all groups'}\n\n{' '.join((group.__doc__ or '').split())}\n"
        yield f"| knob | type | default | limits | why | since |{' was |' * moved}"
        yield f"|---|---|---|---|---|---|{'---|' * moved}"
        for field in knobs:
            yield _row(prefix, field, *written[prefix + field.name], moved)
        yield ""
    for field in fields:
        if dataclasses.is_dataclass(field.type):
            yield from _groups(field.type, f"{prefix}{field.name}.", written)  # pyright: ignore[reportArgumentType]


def _row(prefix: str, field: dataclasses.Field, default: str, why: str, moved: bool) -> str:
    about = field.metadata
    kind = KINDS[field.type].removeprefix("a ")  # pyright: ignore[reportArgumentType]
    limits = about["says"].replace("must not be ", "not ").replace("must be ", "")
    since = about["since"] + (f" (`{about['before']!r}`)" if "before" in about else "")
    cells = [f"`{prefix}{field.name}`", kind, f"`{default}`", limits, why, since]
    if moved:
        above = ".".join(prefix.split(".")[:-2])
        cells.append(f"`{above}.{about['was']}`" if about["was"] else "")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _written(source: str) -> dict[str, tuple[str, str]]:
    """Return {"train.lr": ("6e-4", "the highest, ...")}: each knob's value and comment as they stand in base.py."""
    comments = {
        token.start[0]: token.string.removeprefix("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    groups, found = {"config": ""}, {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Attribute):
            continue
        owner = node.targets[0].value
        if not isinstance(owner, ast.Name) or owner.id not in groups:
            continue
        name = groups[owner.id] + node.targets[0].attr
        if len(node.targets) == 2 and isinstance(node.targets[1], ast.Name):  # config.data = data = ConfigDict()
            groups[node.targets[1].id] = f"{name}."
        else:
            found[name] = ast.get_source_segment(source, node.value) or "", comments[node.lineno]
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: written")
