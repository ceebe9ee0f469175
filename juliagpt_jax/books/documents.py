"""Files to documents: cut, clean, drop, split. Each document's fate, and what went, by rule.

A document stays whole: it is what a split and a shuffle move. Every document that a cut makes ends in exactly one fate.
The result is a pure function of the files and the options.
"""

import dataclasses
import hashlib
import html
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from juliagpt_jax.books import cuts, datasets, kinds, parsers, sources
from juliagpt_jax.books.archives import Budget
from juliagpt_jax.books.cuts import Piece
from juliagpt_jax.books.ledger import Ledger
from juliagpt_jax.books.sources import Work, digest
from juliagpt_jax.ground import rows, texts
from juliagpt_jax.ground.errors import UserError

FATES = {
    "train": "training",
    "val": "validation",
    "test": "test: kept apart, never read by training",
    "empty": "nothing left after cleaning",
    "unfinished": "cut off by the end of its file",
    "short": "fewer tokens than --min_tokens",
    "long": "more tokens than --max_tokens",
    "blocked": "holds a word of --blocklist",
    "kind": "not what --kind asks for",
    "exact": "word for word an earlier document",
}
KEPT = ("train", "val", "test")
RULES = {"html": "HTML tags and comments", "unprintable": "signs that no printer has"}
_SPARED = "\n\t\u200c\u200d"  # the last two join letters of Persian and parts of signs, and are no dirt
_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_OWN = ("text", "title", "work", "index", "words", "compression", "mtld", "flesch", "difficulty", "quality")
_TAGS = (
    "a abbr acronym address article aside audio b big blockquote body br button canvas caption center cite code col "
    "colgroup dd del details dfn div dl dt em embed fieldset figcaption figure font footer form frame h1 h2 h3 h4 h5 "
    "h6 head header hr html i iframe img input ins kbd label legend li link main map mark meta nav noscript object ol "
    "option p param pre q ruby s samp script section select small span strike strong style sub summary sup svg table "
    "tbody td textarea tfoot th thead time title tr tt u ul var video wbr"
).split()
_HTML = re.compile(
    r"<!--.*?-->|<!doctype[^<>]{0,200}>|<(script|style)\b[^<>]{0,2000}>.*?</\1\s*>|"
    rf"</?(?:{'|'.join(_TAGS)})(?:\s[^<>]{{0,1000}}=[^<>]{{0,1000}})?\s*/?>",
    re.I | re.S,
)
_BREAKS = re.compile(r"</?(?:br|p|div|li|tr|h[1-6]|blockquote|hr|table|ul|ol)\b", re.I)
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options that the result depends on, beside the sources. Limits are checked by `prepare`.

    Attributes:
        unit: what a document is: a name of `cuts.CUTS`, or "row".
        clean: strip HTML and unprintable signs, drop what comes twice.
        min_tokens, max_tokens: documents outside are dropped; 0 is no limit.
        tokens: what is counted: "words", between white space, or the SHA-256 of a tokenizer's file.
        kind: of text that is kept: a name of `kinds.KINDS`.
        blocklist: the SHA-256 of the list of words that no document may hold, "" for none.
        val_share: of the documents; nothing where the split is given.
        seed: of the split.
        errors: "strict"; "replace", for bytes that are no text; "skip", to leave out files and rows that are bad.
    """

    unit: str
    clean: bool = True
    min_tokens: int = 10
    max_tokens: int = 2_048
    tokens: str = "words"
    blocklist: str = ""
    val_share: float = 0.1
    seed: int = 0
    errors: str = "strict"
    kind: str = "any"


@dataclasses.dataclass
class Document:
    """A document on its way through the stages.

    Attributes:
        work: the id of the file that it stands in; `index` is its place there.
        fields: more that is known of it: numbers and words, the title among them.
        fate: a name of FATES; "" until it is known.
        tokens: counted as the options say.
    """

    work: str
    index: int
    text: str
    fields: dict[str, Any]
    fate: str = ""
    tokens: int = 0


@dataclasses.dataclass
class Collection:
    """Documents as they come out of all stages.

    Attributes:
        documents: in the order of their files.
        files: facts of each file: its id, side, SHA-256, and characters.
        ledger: what the rules took out of documents.
        notes: for the reader.
    """

    documents: list[Document]
    files: list[dict[str, Any]]
    ledger: Ledger
    notes: list[str]

    def of(self, fate: str) -> list[Document]:
        """Return the documents that ended so, in their order."""
        return [document for document in self.documents if document.fate == fate]


def run(
    files: list[tuple[str, Work]],
    options: Options,
    budget: Budget,
    count: Callable[[str], int],
    blocked: frozenset[str] = frozenset(),
    shown: Callable[[str, int, Iterable[Any]], Iterable[Any]] = lambda stage, steps, items: items,
) -> Collection:
    """Take files through all stages.

    Args:
        files: each with the side of the split that it is ("train", "val", "test"), "" where `options` split.
        count: tokens of a text.
        blocked: words of the list, in small letters.

    Raises:
        UserError: a file or row that cannot be read (all files are named), or too few documents to split.
    """
    made = Collection([], [], Ledger(), [])
    faults: list[str] = []
    for side, work in shown("read", len(files), files):
        try:
            pieces = _pieces(work, side, options, budget, made.notes)
        except UserError as error:
            faults.append(str(error))
            continue
        size = sum(len(piece.text) for piece, _ in pieces)
        sha256 = work.source_sha256 or digest(work.path)
        made.files.append({"id": work.id, "side": side, "sha256": sha256, "characters": size})
        for index, (piece, fields) in enumerate(pieces):
            fields["title"] = "".join(c for c in " ".join(fields["title"].split()) if c.isprintable())
            text = clean(piece.text, made.ledger) if options.clean else piece.text
            made.documents.append(Document(work.id, index, text, fields, piece.cause or side))
    if faults and (options.errors != "skip" or not made.files):
        raise texts.refused(faults, len(files), "--errors=skip leaves such files out" if made.files else "")
    made.notes += [f"left out: {fault}" for fault in faults]
    _drop(made, options, count, blocked)
    if not any(side for side, _ in files):
        _split(made, options)
    for name in ("train", "val"):
        if not made.of(name):
            raise UserError(f"--source: no {FATES[name]} document is left of {len(made.documents)}: look at the limits")
    return made


def _pieces(
    work: Work, side: str, options: Options, budget: Budget, notes: list[str]
) -> list[tuple[Piece, dict[str, Any]]]:
    """The documents of a file as they were cut, and their fields."""
    if options.unit == cuts.ROW:
        return _rows(work.path, options, budget, notes)
    if not options.clean and side:  # to the byte
        pieces = cuts.CUTS[options.unit](_decoded(work.path, budget))
        return [(piece, {"title": piece.title}) for piece in pieces]
    found = []
    for part in parsers.read(work.path, budget, options.errors, notes):
        title = part.facts.get("title", "") or Path(part.name).stem.replace("_", " ")
        for piece in cuts.CUTS[options.unit](part.text):
            found.append((piece, {"title": piece.title or (title if options.unit == "file" else "")}))
    return found


def _decoded(path: Path, budget: Budget) -> str:
    content = datasets.content(path, budget)
    for sign, name in [(b"\r", "a carriage return"), (b"\0", "NUL")]:
        if sign in content:
            raise UserError(f"{path}: byte {content.index(sign)} is {name}; a text that is kept to the byte has none")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8 ({error.reason})") from error


def _rows(path: Path, options: Options, budget: Budget, notes: list[str]) -> list[tuple[Piece, dict[str, Any]]]:
    """The rows of a .jsonl file: "text" is the document, what all rows have beside it are its fields. What is odd in a
    text is left to the rules that clean it."""
    found: list[dict[str, Any]] = []
    bad: list[str] = []
    for number, line in enumerate(datasets.content(path, budget).removesuffix(b"\n").split(b"\n"), 1):
        try:
            row = rows.parse(rows.bare(line, number == 1))
            if not isinstance(row.get("text"), str):
                raise rows.Bad('has no "text" that is one')
            for name, value in row.items():
                if isinstance(value, str):
                    rows.check_text(name, value)
            found.append(row)
        except rows.Bad as reason:
            bad.append(f"{path.name}:{number}: {reason}")
    if bad and options.errors != "skip":
        raise UserError(f"{path.parent / bad[0]}; --errors=skip leaves such rows out")
    if bad:
        notes.append(f"{len(bad)} rows left out; the first is {bad[0]}")
    kinds = Counter((name, _kind(value)) for row in found for name, value in row.items())
    common = [name for (name, kind), n in kinds.items() if n == len(found) and kind and name not in _OWN]
    others = sorted({name for name, _ in kinds} - {*common, "text", "title"})
    if others:
        why = "not in all rows, neither words nor numbers, or called like one of prepare's own"
        notes.append(f"{path.name}: fields left out ({why}): {', '.join(others)}")
    title = lambda row: row["title"] if isinstance(row.get("title"), str) else ""
    return [(Piece(row["text"].strip()), {"title": title(row)} | {n: row[n] for n in common}) for row in found]


def _kind(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e300
    return "word" if isinstance(value, str) and value.isprintable() else "number" if number else ""


def clean(text: str, ledger: Ledger) -> str:
    """Return a text without HTML and unprintable signs; what went is in the ledger, under "html" and "unprintable".

    Tags are those of HTML alone: `<unk>`, `<3` and `a < b` stay. A tag that ends a line on a page ends one here;
    `&amp;` becomes a sign where there are tags. Strange blanks become a blank, strange ends of lines an end of a line.
    """

    def taken(match: re.Match[str]) -> str:
        ledger.drop("html", match[0])
        return "\n" if _BREAKS.match(match[0]) else ""

    made = _HTML.sub(taken, text)
    if made != text:
        made = re.sub(r"\n{3,}", "\n\n", html.unescape(made))
    for sign in sorted({c for c in set(made) if not c.isprintable() and c not in _SPARED}):
        becomes = "\n" if sign in _LINE_ENDS else " " if sign.isspace() and sign != "\r" else ""
        if not becomes:
            ledger.drop("unprintable", f"U+{ord(sign):04X}", made.count(sign))
        made = made.replace(sign, becomes)
    return made.strip() if made != text else text


def _drop(made: Collection, options: Options, count: Callable[[str], int], blocked: frozenset[str]) -> None:
    """Give the documents that no set may have their fate. Where the split is given, validation and test stay whole:
    others measure on them."""
    seen: set[bytes] = set()
    for document in made.documents:
        if document.fate in ("", "train"):
            document.tokens = count(document.text)
            document.fate = fate(document.text, document.tokens, options, blocked) or document.fate
            key = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).digest()
            if document.fate in ("", "train") and options.clean and key in seen:
                document.fate = "exact"
            seen.add(key)


def fate(text: str, tokens: int, options: Options, blocked: frozenset[str]) -> str:
    """Return the name of the fate of a text that no set may have, judged by itself; "" where nothing speaks against
    it."""
    if not text.strip():
        return "empty"
    if options.min_tokens and tokens < options.min_tokens:
        return "short"
    if options.max_tokens and tokens > options.max_tokens:
        return "long"
    if blocked and not blocked.isdisjoint(_WORD.findall(text.lower())):
        return "blocked"
    return "kind" if kinds.KINDS[options.kind](text) else ""


def _split(made: Collection, options: Options) -> None:
    """Put a `val_share` of the documents, drawn by the seed, to validation; the rest is training text."""
    left = [document for document in made.documents if not document.fate]
    wanted = max(1, round(len(left) * options.val_share))
    if len(left) < 2:
        raise UserError(f"--source: {len(left)} documents are left, two are the fewest that can be split")
    chosen = set(random.Random(f"split {options.seed}").sample(range(len(left)), min(wanted, len(left) - 1)))
    for i, document in enumerate(left):
        document.fate = "val" if i in chosen else "train"


def options(flags: Any, known: datasets.DataSet | None, tokens: str, blocklist: str) -> Options:
    """Return the options for the command's flags. A collection that others measure on is left as it is, but for what
    the flags ask of its training documents."""
    as_is = known is not None and known.as_is
    least, most = (0, 0) if as_is else (Options.min_tokens, Options.max_tokens)
    return Options(
        unit=known.unit if known else flags.unit,
        clean=not as_is,
        min_tokens=least if flags.min_tokens is None else flags.min_tokens,
        max_tokens=most if flags.max_tokens is None else flags.max_tokens,
        tokens=tokens,
        blocklist=blocklist,
        val_share=flags.val_share,
        seed=flags.seed,
        errors=flags.errors,
        kind=flags.kind,
    )


def works(path: Path, unit: str) -> tuple[list[Work], list[str]]:
    """Return the files at a path that are cut by a unit, and notes on others; see `sources.local`."""
    return sources.local(path, suffixes=(".jsonl", ".jsonl.gz")) if unit == cuts.ROW else sources.local(path)


def blocklist(file: Path) -> tuple[frozenset[str], str]:
    """Return the words of a list, one a line, in small letters, and the SHA-256 of the file.

    Raises:
        UserError: no such file, a line of several words, or none at all.
    """
    content = texts.read_bytes(file)
    lines = texts.decode(str(file), content).text.split("\n")
    for number, line in enumerate(lines, 1):
        if len(line.split()) > 1:
            raise UserError(f"--blocklist: {file}:{number}: {line.strip()[:40]!r} is more than one word")
    words = frozenset(line.strip().lower() for line in lines if line.strip())
    if not words:
        raise UserError(f"--blocklist: {file} has no word in it")
    return words, hashlib.sha256(content).hexdigest()
