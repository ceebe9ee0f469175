"""The training side of a source, passage by passage and never held whole: what a tokenizer learns from.

It is the text that a run trains on at the same path, as `reading.py` splits it: validation text is not read. A passage
is a line of a .txt file, or the "text" of a line of a .jsonl file, which may be a document of many lines; each with the
end of its last line.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from juliagpt_jax.data import metadata, reading
from juliagpt_jax.ground import rows, texts
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import sha256
from juliagpt_jax.schoolroom import passages as schoolroom

LONGEST = 2**20  # characters of a line; a longer one is cut in front of a blank


@dataclasses.dataclass(frozen=True)
class Part:
    """A file's training side: its first `units` characters or, of .jsonl, lines; so many characters in all."""

    file: Path
    units: int
    characters: int
    errors: str

    def texts(self) -> Iterator[str]:
        """Yield its passages."""
        if reading.is_rows(self.file):
            return itertools.islice(_rows(self.file, self.errors), self.units)
        return lines(first(texts.blocks(self.file, self.errors), self.units))


@dataclasses.dataclass(frozen=True)
class Source:
    """A text to learn from.

    Attributes:
        characters: of it.
        notes: what was read, and what was left out.
        hashes: SHA-256 of the files, by name; of the embedded corpus its own.
    """

    characters: int
    notes: tuple[str, ...]
    hashes: dict[str, str]
    _texts: Callable[[], Iterator[str]]

    def texts(self) -> Iterator[str]:
        """Yield the passages in their order; each call begins anew."""
        return self._texts()


def open_source(path: str, errors: str, flag: str = "--source") -> Source:
    """Find the training side of what lies at a path: the embedded corpus, a file, or a folder as `config.data.path`
    takes it. Files are read through once, to count them.

    Args:
        errors: as of `texts.decode`.
        flag: the name of the path on the command line, for messages.

    Raises:
        UserError: nothing is there, or a file is no text; all such files are named.
    """
    if path == "schoolroom":
        sides = schoolroom.corpus()
        lines = [passage.text + "\n" for passage in sides[0]]
        hashes = {"schoolroom": schoolroom.digest(sides)}
        said = ("the training passages of the embedded corpus",)
        return Source(sum(map(len, lines)), said, hashes, lambda: iter(lines))
    folder = texts.path(path)
    if not folder.exists():
        raise UserError(f"{flag}={path} does not exist; it is 'schoolroom', a folder, or a .txt or .jsonl file")
    split, files, notes = reading.find(folder, flag)
    try:
        hashes = {file: sha256(file) for file in files}
    except OSError as error:
        raise UserError(f"{flag}: {error.filename}: {error.strerror or error}") from error
    if not split:
        reading.hold_to_manifest(folder, hashes, flag)
        files = [file for file in files if file.stem.partition("_")[0] == "train"][:1]  # its text before its rows
    share = reading.VALIDATION_SHARE if split else 0.0
    parts, faults = [], []
    for file in files:
        try:
            parts.append(_part(file, errors, share))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise texts.refused(faults, len(files))
    if not (characters := sum(part.characters for part in parts)):
        raise UserError(f"{flag}={path}: there is no text in it")
    last = f"the last {share:.0%} of each is left to validation" if split else "validation text is not read"
    said = (f"{', '.join(file.name for file in files[:5])}{' ...' if len(files) > 5 else ''}: {last}", *notes)
    read = {file.name: hashes[file] for file in files}
    return Source(
        *(characters, said, read),
        lambda: itertools.chain.from_iterable(part.texts() for part in parts),
    )


def _part(file: Path, errors: str, share: float) -> Part:
    """Count a file, and leave the last `share` of it out, as `reading.py` does."""
    sizes = map(len, _rows(file, errors) if reading.is_rows(file) else texts.blocks(file, errors))
    if not reading.is_rows(file):
        whole = sum(sizes)
        cut = whole - int(whole * share)
        return Part(file, cut, cut, errors)
    count = sum(1 for _ in sizes)
    units = count - int(count * share)
    return Part(file, units, sum(map(len, itertools.islice(_rows(file, errors), units))), errors)


def first(blocks: Iterable[str], characters: int) -> Iterator[str]:
    for block in blocks:
        yield block[:characters]
        characters -= len(block)
        if characters <= 0:
            return


def lines(blocks: Iterable[str]) -> Iterator[str]:
    """Cut characters into lines with their ends."""
    rest = ""
    for block in blocks:
        *lines, rest = (rest + block).split("\n")
        for line in lines:
            yield from _pieces(line + "\n")
        *pieces, rest = _pieces(rest)
        yield from pieces
    if rest:
        yield rest


def _pieces(line: str) -> list[str]:
    """Cut a line so that no piece has more than LONGEST characters: in front of a blank where there is one."""
    pieces = []
    while len(line) > LONGEST:
        cut = max(line.rfind(" ", 1, LONGEST), 0) or LONGEST
        pieces.append(line[:cut])
        line = line[cut:]
    return [*pieces, line]


def _rows(file: Path, errors: str) -> Iterator[str]:
    """Yield the "text" of each line of a .jsonl file. A run refuses the same lines.

    Raises:
        UserError: a line has none; the text names file and line.
    """
    try:
        with open(file, "rb") as handle:
            for number, line in enumerate(handle, 1):
                try:
                    found = metadata.row(line.removesuffix(b"\n"), errors)
                    if "text" not in found:
                        raise rows.Bad('has no "text"')
                except rows.Bad as reason:
                    raise UserError(f"{file}:{number}: {reason}") from reason
                yield reading.ended(found["text"])
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from error
