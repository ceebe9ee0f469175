"""Books to a corpus: read, clean, chunk, score, deduplicate, split. The order of the stages, and each chunk's fate.

Every chunk that the chunker makes ends in exactly one fate, so that the report's numbers add up. The result is a pure
function of the sources and the options: the number of processes does not matter.
"""

import contextlib
import dataclasses
import multiprocessing
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from juliagpt_jax.books import apparatus, chunker, cleaner, deduplication, parsers, scorer
from juliagpt_jax.books.sources import Work, digest
from juliagpt_jax.books.split import passages, smallest
from juliagpt_jax.ground.errors import StorageError, UserError

FATES = {
    "train": "training",
    "val": "validation",
    "poor": "quality under the threshold",
    "exact": "word for word an earlier chunk",
    "near": "nearly an earlier chunk",
    "guard": "beside a validation passage",
    "leak": "holds text of a validation chunk",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What makes the result what it is, beside the sources. Limits are checked by `prepare`.

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
        errors: "strict" or "replace", for bytes that are no text.
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
        characters: of the file's text, with header and footer.
        replaced: bytes that were no text.
        dropped: characters of apparatus, by kind; with `kept` they are all `characters`.
        changes: what the cleaner did to the characters that were kept.
        short: characters of text that did not make a chunk of the shortest length.
        chunks: in reading order. A chunk's index in the work is its place in this list.
        scores, fates: one a chunk.
        counts: words.
    """

    work: Work
    sha256: str
    characters: int
    replaced: int
    dropped: Counter[str]
    kept: int
    changes: cleaner.Changes
    short: int
    chunks: list[str]
    scores: list[scorer.Scores] = dataclasses.field(default_factory=list)
    fates: list[str] = dataclasses.field(default_factory=list)
    counts: Counter[str] = dataclasses.field(default_factory=Counter)

    def indices(self, *fates: str) -> list[int]:
        """Indices of the chunks with one of the fates, in reading order."""
        return [i for i, fate in enumerate(self.fates) if fate in fates]


@dataclasses.dataclass
class Corpus:
    """The outcome.

    Attributes:
        books: with every chunk's fate.
        difficulty: of each book's chunks, nan for those that are in neither set.
        leaked: validation chunks that leaked before the training chunks that gave them away were left out.
        leaked_after: the same, after. Nothing but 0 is ever written.
    """

    books: list[Book]
    difficulty: list[list[float]]
    leaked: int
    leaked_after: int


Progress = Callable[[str, int, Iterable[Any]], Iterable[Any]]  # (stage, steps, iterable) -> the same iterable


def run(works: list[Work], options: Options, budget: parsers.Budget, jobs: int, progress: Progress) -> Corpus:
    """All stages.

    Raises:
        UserError: nothing to read, too little text to split (fault 14), or too much of the validation text in the
            training text (fault 19).
    """
    with _pool(jobs) as spread:
        tasks = [(work, options, budget) for work in works]
        books = [
            book for part in progress("read", len(works), spread(_read_task, tasks)) for book in _within(part, budget)
        ]
        _name(books)
        score(books, options, lambda f, tasks: progress("score", len(tasks), spread(f, tasks)))
    if not any(book.chunks for book in books):
        raise UserError(
            f"--source: no running text: {sum(b.characters for b in books):,} characters read, not one chunk of "
            f"{options.shortest} made"
        )
    deduplicate(books, options)
    split(books, options)
    leaked, leaked_after = unleak(books, options)
    return Corpus(books, _difficulty(books), leaked, leaked_after)


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[Callable[[Callable[[Any], Any], list[Any]], Iterable[Any]]]:
    """A `map` in order, over processes or in this one. Processes are spawned: forking one with threads may hang.

    Raises:
        StorageError: a process was killed from outside, most likely because the memory was full.
    """
    if jobs <= 1:
        yield map
        return
    quiet = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is this process's business
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), signal.signal, quiet)
    try:
        yield pool.map
    except BrokenProcessPool as error:
        raise StorageError(f"one of the {jobs} processes was killed; too little memory? try --jobs=1") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _within(books: list[Book], budget: parsers.Budget) -> list[Book]:
    """Each process has the whole budget; here it is counted over all of them."""
    budget.total_bytes -= sum(book.characters for book in books)
    budget.files -= len(books)
    if budget.total_bytes < 0 or budget.files < 0:
        raise UserError("--source: more text or files than --max_bytes and --max_files allow")
    return books


def _name(books: list[Book]) -> None:
    """Works of one archive get ids of their own."""
    seen: Counter[str] = Counter()
    for book in books:
        seen[book.work.id] += 1
        if seen[book.work.id] > 1:
            book.work = dataclasses.replace(book.work, id=f"{book.work.id}_{seen[book.work.id]}")
    if len({b.work.id for b in books}) < len(books):
        raise UserError("--source: two works would have the same id; rename a file")


def _read_task(task: tuple[Work, Options, parsers.Budget]) -> list[Book]:
    return read(*task)


def read(work: Work, options: Options, budget: parsers.Budget) -> list[Book]:
    """The book in a file, or those in an archive: parsed, freed of apparatus, cleaned and cut into chunks."""
    sha256 = digest(work.path)
    documents = parsers.read(work.path, dataclasses.replace(budget), options.errors)
    return [_book(work, sha256, document, options) for document in documents]


def _book(work: Work, sha256: str, document: parsers.Document, options: Options) -> Book:
    text = apparatus.strip(document.text)
    facts = text.facts | document.facts
    work = dataclasses.replace(
        work,
        title=work.title or facts.get("title", "") or Path(document.name).stem.replace("_", " "),
        author=work.author or facts.get("author", ""),
        translator=work.translator or facts.get("translator", ""),
    )
    limits = chunker.Limits(options.shortest, options.longest)
    changes = cleaner.Changes()
    speakers = apparatus.speakers(text.sections)
    sections = []
    for section in text.sections:
        paragraphs = [cleaner.clean(apparatus.name_speaker(p, speakers), options.alphabet, changes) for p in section]
        sections.append([[cleaner.small(s, options.alphabet) for s in chunker.sentences(p)] for p in paragraphs if p])
    made = chunker.chunks(sections, limits)
    chunks = [chunk for chunk in made if len(chunk) >= options.shortest]
    short = sum(map(len, made)) - sum(map(len, chunks))
    counts = Counter(word for chunk in chunks for word in scorer.words(chunk))
    return Book(
        work,
        sha256,
        len(document.text),
        document.replaced,
        text.dropped,
        text.kept,
        changes,
        short,
        chunks,
        counts=counts,
    )


def score(
    books: list[Book], options: Options, spread: Callable[[Callable[[Any], Any], list[Any]], Iterable[Any]]
) -> None:
    """Fill in the scores. A book's chunks are compressed with text of the other books; where there is no other, its
    first half with text of its second and the other way round."""
    total = sum((book.counts for book in books), Counter[str]())
    parts: list[tuple[list[str], list[str]]] = []  # (chunks to judge, text to judge them by)
    if len(books) == 1:
        half = len(books[0].chunks) // 2
        first, second = books[0].chunks[:half], books[0].chunks[half:]
        parts = [(first, second), (second, first)]
    else:
        sample = [_sample(book, options.seed) for book in books]
        for i, book in enumerate(books):
            parts.append((book.chunks, [text for j, texts in enumerate(sample) if j != i for text in texts]))
    tasks = [(chunks, scorer.dictionary(others, options.seed), _counts_for(chunks, total)) for chunks, others in parts]
    results = list(spread(_score_task, tasks))
    if len(books) == 1:
        results = [[s for result in results for s in result]]
    for book, scores in zip(books, results, strict=True):
        book.scores = scores
        book.fates = ["poor" if s.quality < options.min_quality else "" for s in scores]


def _sample(book: Book, seed: int) -> list[str]:
    """At most 300 chunks of a book, spread over it."""
    order = random.Random(f"sample {seed} {book.work.id}").sample(range(len(book.chunks)), min(300, len(book.chunks)))
    return [book.chunks[i] for i in sorted(order)]


def _counts_for(chunks: list[str], total: Counter[str]) -> tuple[dict[str, int], int]:
    own = {word for chunk in chunks for word in scorer.words(chunk)}
    return {word: total[word] for word in sorted(own)}, total.total()


def _score_task(task: tuple[list[str], bytes, tuple[dict[str, int], int]]) -> list[scorer.Scores]:
    chunks, dictionary, (counts, total) = task
    judge = scorer.Judge(dictionary, counts, total)
    return [judge.score(chunk) for chunk in chunks]


def deduplicate(books: list[Book], options: Options) -> None:
    """Of chunks that are the same, or nearly, the first stays."""
    places = [(book, i) for book in books for i in book.indices("")]
    exact, near = deduplication.repeated([book.chunks[i] for book, i in places], options.similarity)
    for fate, found in [("exact", exact), ("near", near)]:
        for k in found:
            book, i = places[k]
            book.fates[i] = fate


def split(books: list[Book], options: Options) -> None:
    """Put passages of `passage` chunks in a row to validation, a `val_share` of each work, spread over the work; leave
    out `guard` chunks on each side of each; the rest is training text.

    Raises:
        UserError: not even the largest work has enough chunks for a passage (fault 14).
    """
    for book in books:
        places = book.indices("")
        for i in places:
            book.fates[i] = "train"
        for begin, end in passages(
            len(places), options.val_share, options.passage, options.guard, f"split {options.seed} {book.work.id}"
        ):
            for k in range(max(0, begin - options.guard), min(len(places), end + options.guard)):
                if book.fates[places[k]] != "val":
                    book.fates[places[k]] = "val" if begin <= k < end else "guard"
    counts = [len(book.indices("train", "val", "guard")) for book in books]
    if not any(book.indices("val") for book in books) or not any(book.indices("train") for book in books):
        raise UserError(
            f"--source: too small to split: {sum(counts)} chunks are left, {max(counts)} in the largest work; "
            f"{smallest(options.val_share, options.guard)} in one work are needed"
        )


def unleak(books: list[Book], options: Options) -> tuple[int, int]:
    """Leave out training chunks that hold text of validation chunks; the number that leaked before, and after.

    Raises:
        UserError: more than `leak_limit` of the validation chunks leaked: two editions of one work, most likely.
    """

    def found() -> tuple[list[tuple[Book, int]], list[tuple[Book, int]], int]:
        train, val = ([(book, i) for book in books for i in book.indices(fate)] for fate in ("train", "val"))
        leaked, sources = deduplication.leaks([b.chunks[i] for b, i in train], [b.chunks[i] for b, i in val])
        return [val[k] for k in leaked], [train[k] for k in sources], len(val)

    leaked, sources, total = found()
    if len(leaked) > options.leak_limit * total:
        pairs = Counter(book.work.id for book, _ in leaked).most_common(2)
        givers = Counter(book.work.id for book, _ in sources).most_common(2)
        raise UserError(
            f"--source: {len(leaked)} of {total} validation chunks ({len(leaked) / total:.1%}) stand in the training "
            f"text too, more than --leak_limit={options.leak_limit:g}: in {', '.join(name for name, _ in pairs)}, "
            f"given away by {', '.join(name for name, _ in givers)}. Is one work there twice?"
        )
    for book, i in sources:
        book.fates[i] = "leak"
    return len(leaked), len(found()[0])


def _difficulty(books: list[Book]) -> list[list[float]]:
    places = [(k, i) for k, book in enumerate(books) for i in book.indices("train", "val")]
    values = scorer.difficulty([books[k].scores[i] for k, i in places])
    result = [[float("nan")] * len(book.chunks) for book in books]
    for (k, i), value in zip(places, values, strict=True):
        result[k][i] = float(value)
    return result
