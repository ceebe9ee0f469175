"""Examples from a user's .jsonl files, plain or with gzip.

Each line is an object of one of these forms; other fields stay among the example's facts:

    {"prompt": "2+3=", "answer": "5"}
    {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]}
    {"prompt": "2+3=", "chosen": "5", "rejected": "6"}
    {"chosen": "\\n\\nHuman: Hello\\n\\nAssistant: Good day.", "rejected": "\\n\\nHuman: Hello\\n\\nAssistant: No."}

In the last form, that of HH-RLHF, the prompt is what both texts have up to the last "Assistant:" that they share.
"""

import hashlib
from pathlib import Path
from typing import Any

from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.ground import rows, texts
from juliagpt_jax.ground.errors import UserError

ENDINGS = (".jsonl", ".jsonl.gz")
TURN = "\n\nAssistant:"
LARGEST = 2**32  # bytes of a file when it is unpacked
DEV = 20  # of a file that is not split, one in so many prompts is held out
SIDES = {"train": ("train",), "dev": ("dev", "val", "validation")}


def check(path: str) -> None:
    """Refuse at once what is not there.

    Raises:
        UserError: naming the path.
    """
    _files(texts.path(path))


def read(path: str) -> tuple[list[Example], list[Example]]:
    """Return the examples of a file or a folder, to train on and to measure with.

    A folder has train.jsonl and dev.jsonl. Of a file, one in DEV prompts is for measuring: by the hash of the prompt,
    so that what is asked twice lies on one side.

    Raises:
        UserError: they are not there, or a line is none of these forms; with file and line.
    """
    files = _files(texts.path(path))
    if len(files) == 2:
        train, dev = map(_examples, files)
        return train, dev
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in _examples(files[0]):
        key = hashlib.sha256(repr((example.prompt, example.facts.get("messages", ())[:1])).encode("utf-8")).digest()
        sides[int.from_bytes(key[:8], "big") % DEV == 0].append(example)
    return sides


def _files(path: Path) -> list[Path]:
    """Return the one file that is there, or that to train on and that to measure with."""
    if not path.exists():
        raise UserError(f"config.data.path={path} does not exist")
    if path.is_file():
        if not path.name.endswith(ENDINGS):
            raise UserError(f"config.data.path={path}: examples are read from {' or '.join(ENDINGS)}")
        return [path]
    found = []
    for side, names in SIDES.items():
        there = [path / f"{name}{end}" for name in names for end in ENDINGS if (path / f"{name}{end}").exists()]
        if not there:
            raise UserError(f"config.data.path={path}: no {side}.jsonl in it; or give a file, which is split by itself")
        found.append(there[0])
    return found


def _examples(file: Path) -> list[Example]:
    lines = texts.read_unpacked(file, LARGEST).split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(example(rows.parse(rows.bare(line, number == 1))))
        except rows.Bad as error:
            raise UserError(f"{file}:{number}: {error}") from error
    if not found:
        raise UserError(f"{file}: no example in it")
    return found


def example(row: dict[str, Any]) -> Example:
    """Return the example that an object is.

    Raises:
        rows.Bad: it is none.
    """
    if "messages" in row:
        return _conversation(row)
    if "chosen" in row or "rejected" in row:
        return _preference(row)
    prompt, answer = (_text(row, name) for name in ("prompt", "answer"))
    return Example(prompt, answer, facts={k: v for k, v in row.items() if k not in ("prompt", "answer")})


def _text(row: dict[str, Any], name: str) -> str:
    if name not in row:
        forms = "prompt and answer, or messages, or chosen and rejected"
        raise rows.Bad(f"has no field {rows.shown(name)}; an example has {forms}")
    if not isinstance(row[name], str):
        raise rows.Bad(f"{rows.shown(name)} is no text")
    rows.check_text(name, row[name])
    return row[name]


def _conversation(row: dict[str, Any]) -> Example:
    messages = row["messages"]
    if not isinstance(messages, list) or not messages or not all(isinstance(own, dict) for own in messages):
        raise rows.Bad('"messages" is no list of messages')
    for own in messages:
        _text(own, "role")
        _text(own, "content")
    answered = [i for i, own in enumerate(messages) if own["role"] == "assistant"]
    if not answered:
        raise rows.Bad('no message is of the role "assistant": there is no answer to learn')
    if not answered[0]:
        raise rows.Bad('the first message is of the role "assistant": it answers nothing')
    last = answered[-1]
    facts = {k: v for k, v in row.items() if k != "messages"} | {"messages": messages}
    return Example(messages[last - 1]["content"], messages[last]["content"], facts=facts)


def _preference(row: dict[str, Any]) -> Example:
    chosen, rejected = (_text(row, name) for name in ("chosen", "rejected"))
    facts = {k: v for k, v in row.items() if k not in ("prompt", "chosen", "rejected")}
    if "prompt" in row:
        return Example(_text(row, "prompt"), chosen, facts=facts | {"rejected": rejected})
    differ = (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b)
    alike = chosen[: next(differ, min(len(chosen), len(rejected)))]
    at = alike.rfind(TURN) + len(TURN)
    if at < len(TURN):
        raise rows.Bad('"chosen" and "rejected" are not alike up to an "Assistant:", and there is no "prompt"')
    return Example(chosen[:at], chosen[at:], facts=facts | {"rejected": rejected[at:]})
