"""A file to its books: parsed, freed of apparatus, cleaned and cut into chunks. What happens to one file alone."""

import dataclasses
import re
from collections import Counter
from pathlib import Path

from juliagpt_jax.books import apparatus, archives, chunker, cleaner, parsers, publisher, scorer
from juliagpt_jax.books.cuts import MARK
from juliagpt_jax.books.ledger import Ledger, allowed
from juliagpt_jax.books.sources import Work, digest
from juliagpt_jax.ground import texts
from juliagpt_jax.ground.errors import UserError

# A sign between the texts of a language model, at the beginning or the end of a line: <|endoftext|>, <|im_start|>.
_PARTING = re.compile(r"^[ \t]*<\|\w{1,40}\|>|<\|\w{1,40}\|>[ \t]*$", re.M)
_GAP = "\n\n"


@dataclasses.dataclass(frozen=True)
class Options:
    """Options that the result depends on, beside the sources. Limits are checked by `prepare`.

    Attributes:
        alphabet: a name of `cleaner.ALPHABETS`.
        shortest, longest: characters of a chunk.
        min_quality: chunks below it are left out.
        similarity: Jaccard index from which two chunks count as the same.
        val_share: of each work's chunks.
        passage: chunks of a validation passage.
        guard: chunks left out on each side of a validation passage.
        leak_limit: share of leaked validation chunks from which the split is refused.
        seed: of the split and the compressor's dictionaries.
        errors: "strict"; "replace", for bytes that are no text; "skip", to leave out files that cannot be read.
        tier: of the works.
    """

    alphabet: str = "plain"
    shortest: int = chunker.SHORTEST
    longest: int = chunker.LONGEST
    min_quality: float = 0.5
    similarity: float = 0.6
    val_share: float = 0.1
    passage: int = 32
    guard: int = 1
    leak_limit: float = 0.05
    seed: int = 0
    errors: str = "strict"
    tier: str = "all"


@dataclasses.dataclass
class Book:
    """One work on its way through the stages.

    Attributes:
        work: what is known of it; title, author and translator filled in from the file where no manifest names them.
        sha256: of the file.
        characters: of the file's text, with header and footer and what a page marks as no text.
        replaced: bytes that were no text.
        ledger: what went before the cleaner, by rule; its counts and `kept` are all `characters`.
        changes: what the cleaner did to the characters that were kept.
        cleaned: what the cleaner left out as a whole, by rule.
        short: characters of text that did not make a chunk of the shortest length.
        chunks: in reading order. A chunk's index in the work is its place in this list.
        scores, fates: one a chunk.
        counts: words.
    """

    work: Work
    sha256: str
    characters: int
    replaced: int
    ledger: Ledger
    kept: int
    changes: cleaner.Changes
    cleaned: Ledger
    short: int
    chunks: list[str]
    scores: list[scorer.Scores] = dataclasses.field(default_factory=list)
    fates: list[str] = dataclasses.field(default_factory=list)
    counts: Counter[str] = dataclasses.field(default_factory=Counter)

    def indices(self, *fates: str) -> list[int]:
        """Return the indices of the chunks with one of the fates, in reading order."""
        return [i for i, fate in enumerate(self.fates) if fate in fates]


def attempt(task: tuple[Work, Options, archives.Budget]) -> tuple[list[Book], list[str], str]:
    """Return the books of a file, notes, and why the file cannot be read, if so."""
    work, options, budget = task
    notes: list[str] = []
    in_notes = lambda said: said.replace(str(work.path), work.path.name)  # the result must not depend on the path
    try:
        books = read(work, options, budget, notes)
    except UserError as error:
        left_out = [f"left out: {in_notes(str(error))}"] if options.errors == "skip" else []
        return [], left_out, str(error)
    return books, [in_notes(note) for note in notes], ""


def read(work: Work, options: Options, budget: archives.Budget, notes: list[str] | None = None) -> list[Book]:
    """Return the books in a file: parsed, freed of apparatus, cleaned and cut into chunks."""
    sha256 = digest(work.path)
    documents = parsers.read(work.path, dataclasses.replace(budget), options.errors, notes)
    documents = [_parted(document, [] if notes is None else notes) for document in documents]
    return [
        _book(work, sha256, document if i == 0 else dataclasses.replace(document, ledger=Ledger()), part, options)
        for document in documents
        for i, part in enumerate(publisher.split(document.text))
    ]


def _parted(document: parsers.Document, notes: list[str]) -> parsers.Document:
    """Return a document with blank lines in place of the signs that part the texts of a language model."""
    found = _PARTING.findall(document.text)
    if not found:
        return document
    ledger = Ledger()
    ledger.add(document.ledger)
    for sign in found:
        ledger.drop("parting signs", sign, len(sign) - len(_GAP))
    sign = found[0].strip()
    cut = "; --unit=story makes a document of what each ends" if sign == MARK else ""
    notes.append(f"{document.name}: {len(found):,} signs such as {sign} are read as blank lines{cut}")
    return dataclasses.replace(document, text=_PARTING.sub(_GAP, document.text), ledger=ledger)


def _book(work: Work, sha256: str, document: parsers.Document, part: str, options: Options) -> Book:
    text = apparatus.strip(part)
    facts = document.facts | text.facts
    work = dataclasses.replace(
        work,
        title=work.title or facts.get("title", "") or texts.shown(Path(document.name).stem).replace("_", " "),
        author=work.author or facts.get("author", ""),
        translator=work.translator or facts.get("translator", ""),
    )
    limits = chunker.Limits(options.shortest, options.longest)
    speakers = apparatus.speakers(text.sections)
    named = [[apparatus.name_speaker(p, speakers) for p in section] for section in text.sections]
    cleaned, changes, ledger = _cleaned(named, options, True)
    if ledger.counts["references"] > allowed("references", text.kept):
        spared = ledger.counts["references"]
        cleaned, changes, ledger = _cleaned(named, options, False)
        ledger.spared["references"] = spared
    sections = [
        [[cleaner.small(s, options.alphabet) for s in chunker.sentences(p)] for p in section if p]
        for section in cleaned
    ]
    text.ledger.add(document.ledger)
    made = chunker.chunks(sections, limits)
    chunks = [chunk for chunk in made if len(chunk) >= options.shortest]
    short = sum(map(len, made)) - sum(map(len, chunks))
    counts = Counter(word for chunk in chunks for word in scorer.words(chunk))
    return Book(
        work,
        sha256,
        len(part) + document.ledger.counts.total(),
        document.replaced,
        text.ledger,
        text.kept,
        changes,
        ledger,
        short,
        chunks,
        counts=counts,
    )


def _cleaned(
    sections: list[list[str]], options: Options, references: bool
) -> tuple[list[list[str]], cleaner.Changes, Ledger]:
    changes, ledger = cleaner.Changes(), Ledger()
    made = [[cleaner.clean(p, options.alphabet, changes, ledger, references) for p in section] for section in sections]
    return made, changes, ledger
