"""The blocks that datatrove runs over many workers: our readers, rules, scores and duplicates.

Each is called with the documents of the block before it, its rank and the number of ranks, and hands documents on. A
task that is done is marked by datatrove and never run again; one that was killed writes its files anew. Rank r of every
step reads what rank r of the step before wrote, so positions in a file mean the same to all. What one step leaves for
another carries its hash, or gzip's checksum: it may lie there for days.
"""

import dataclasses
import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.books import documents, pages, scorer
from juliagpt_jax.books.ledger import Ledger
from juliagpt_jax.ground import formats, sealed, texts
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.files import read_arrays, replacing, write_arrays

WARC = (".warc", ".warc.gz")
ENDS = (*formats.FORMATS, ".txt", *WARC)
ORDER = np.dtype([("hash", "<u8"), ("more", "<u8"), ("order", "<u8"), ("place", "<u4")])  # of a document


def listed(source: Path) -> list[Path]:
    """Return the files at a path that are read, in their order.

    Raises:
        UserError: there is none.
    """
    found = [source] if source.is_file() else texts.listed(source, ENDS, deep=True)[0]
    if not found or not found[0].name.lower().endswith(ENDS):
        raise UserError(f"--source={source}: no file that ends in {', '.join(ENDS)}")
    return found


def _document(text: str, name: str, more: dict[str, Any]) -> Any:
    from datatrove.data import Document  # pyright: ignore[reportMissingImports]

    return Document(text=text, id=name, metadata=more)


@dataclasses.dataclass
class Read:
    """Read every `world`-th file: rows are documents, a text file is one, and the text of each page in a WARC file."""

    source: str

    def __call__(self, data: Any, rank: int = 0, world: int = 1) -> Iterator[Any]:
        root = Path(self.source)
        for number, file in enumerate(listed(root)):
            if number % world == rank:
                name = file.relative_to(root).as_posix() if root.is_dir() else file.name
                for place, text in enumerate(self._texts(file)):
                    yield _document(text.strip(), f"{name}/{place}", {"work": name, "index": place, "file": number})

    def _texts(self, file: Path) -> Iterable[str]:
        name = file.name.lower()
        if name.endswith(WARC):
            return _crawled(file)
        if name.endswith(".txt"):
            return ["".join(texts.blocks(file))]
        return formats.documents(file)


def _crawled(file: Path) -> Iterator[str]:
    """Yield the running text of the pages of a WARC file, as `prepare` reads a page; "" of one that has no sound
    form."""
    from datatrove.pipeline.readers import WarcReader  # pyright: ignore[reportMissingImports]

    for record in WarcReader(str(file.parent), glob_pattern=file.name, recursive=False).run():
        try:
            yield pages.read(record.id, record.text)[0].replace(pages.HEADING, "")
        except UserError:
            yield ""


@dataclasses.dataclass
class Clean:
    """Clean documents and leave out those that `prepare` would leave out, by the same rules; count each fate."""

    options: documents.Options
    blocked: frozenset[str]
    tokens: Callable[[str], int]  # counted in a text
    counts: str  # a folder

    def __call__(self, data: Iterable[Any], rank: int = 0, world: int = 1) -> Iterator[Any]:
        ledger, fates = Ledger(), Counter()
        for document in data:
            document.text = documents.clean(document.text, ledger)
            fate = documents.fate(document.text, self.tokens(document.text), self.options, self.blocked)
            fates[fate or "cleaned"] += 1
            if not fate:
                yield document
        _note(self.counts, rank, fates)


@dataclasses.dataclass
class Score:
    """Add the measures of `books/scorer.py`, taken against a reference text, and leave out what is below a quality.

    `prepare` measures against the rest of the corpus; no worker sees that, so here a text is given.
    """

    reference: str
    least: float
    counts: str

    def __call__(self, data: Iterable[Any], rank: int = 0, world: int = 1) -> Iterator[Any]:
        whole = "".join(texts.blocks(Path(self.reference)))
        lines = [line for line in whole.split("\n") if line.strip()]
        counts = Counter(word for line in lines for word in scorer.words(line))
        judge = scorer.Judge(scorer.dictionary(lines, 0), counts, counts.total())
        poor = Counter()
        for document in data:
            found = judge.score(document.text)
            document.metadata |= {
                name: round(getattr(found, name), 4) for name in ("quality", "compression", "mtld", "flesch")
            }
            if found.quality >= self.least:
                yield document
            else:
                poor["poor"] += 1
        _note(self.counts, rank, poor)


def _note(folder: str, rank: int, counted: Counter[str]) -> None:
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    sealed.write_json(path / f"{rank:05d}.json", counted)


def damaged(path: Path, error: Exception) -> StorageError:
    """Return the refusal of what an earlier step left, which is not as it was written."""
    return StorageError(f"{path}: damaged: {str(error)[:200]}; put a sound copy back, or begin again in a new --out")


def _places(path: Path) -> np.ndarray:
    """Return the array that an earlier step left.

    Raises:
        StorageError: it is damaged.
    """
    try:
        return read_arrays(path)["documents"]
    except (OSError, ValueError, KeyError) as error:
        raise damaged(path, error) from error


@dataclasses.dataclass
class Write:
    """Write documents to a file of the rank, gzipped rows with "text", and hand them on."""

    folder: str

    def __call__(self, data: Iterable[Any], rank: int = 0, world: int = 1) -> Iterator[Any]:
        path = Path(self.folder) / f"{rank:05d}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as new, open(new, "wb") as raw, gzip.GzipFile("", "wb", 3, raw, 0) as file:
            for document in data:
                row = {"text": document.text, **document.metadata}
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
                yield document


@dataclasses.dataclass
class Again:
    """Read what the rank wrote before."""

    folder: str

    def __call__(self, data: Any = None, rank: int = 0, world: int = 1) -> Iterator[Any]:
        path = Path(self.folder) / f"{rank:05d}.jsonl.gz"
        if not path.is_file():
            raise StorageError(f"{path} is missing: an earlier step did not end; run the command again")
        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                for line in file:
                    row = json.loads(line)
                    yield _document(row.pop("text"), f"{row['work']}/{row['index']}", row)
        except (OSError, EOFError, zlib.error, ValueError, KeyError, AttributeError, TypeError) as error:
            raise damaged(path, error) from error


@dataclasses.dataclass
class Sign:
    """Note the hash of each document, and where it comes in the order of all files, and hand it on."""

    folder: str

    def __call__(self, data: Iterable[Any], rank: int = 0, world: int = 1) -> Iterator[Any]:
        rows = []
        for place, document in enumerate(data):
            key = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).digest()
            order = (document.metadata["file"] << 40) + document.metadata["index"]
            rows.append((int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little"), order, place))
            yield document
        path = Path(self.folder) / f"{rank:05d}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {"documents": np.array(rows, ORDER)})


@dataclasses.dataclass
class Find:
    """Keep the first of documents that are the same word for word, in the order of files; write the others' places for
    each rank. One task holds 28 bytes of each document."""

    signed: str
    out: str
    ranks: int

    def __call__(self, data: Any = None, rank: int = 0, world: int = 1) -> None:
        parts = [_places(Path(self.signed) / f"{r:05d}.npz") for r in range(self.ranks)]
        ranks = np.repeat(np.arange(self.ranks), [*map(len, parts)])
        whole = np.concatenate(parts)
        order = np.lexsort((whole["order"], whole["more"], whole["hash"]))
        ordered = whole[order]
        again = np.zeros(len(whole), bool)
        again[1:] = (ordered["hash"][1:] == ordered["hash"][:-1]) & (ordered["more"][1:] == ordered["more"][:-1])
        left_out = order[again]
        Path(self.out).mkdir(parents=True, exist_ok=True)
        for r in range(self.ranks):
            places = np.sort(whole["place"][left_out[ranks[left_out] == r]])
            write_arrays(Path(self.out) / f"{r:05d}.npz", {"documents": places})


@dataclasses.dataclass
class Drop:
    """Leave out the documents at the places that `Find` wrote."""

    found: str
    counts: str

    def __call__(self, data: Iterable[Any], rank: int = 0, world: int = 1) -> Iterator[Any]:
        places = set(_places(Path(self.found) / f"{rank:05d}.npz").tolist())
        for place, document in enumerate(data):
            if place not in places:
                yield document
        _note(self.counts, rank, Counter(exact=len(places)))


@dataclasses.dataclass
class Count:
    """Note how many documents came this far, and hand them on."""

    name: str
    counts: str

    def __call__(self, data: Iterable[Any], rank: int = 0, world: int = 1) -> Iterator[Any]:
        found = Counter({self.name: 0})
        for document in data:
            found[self.name] += 1
            yield document
        _note(self.counts, rank, found)
