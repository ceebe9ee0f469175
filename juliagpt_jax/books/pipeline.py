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
from typing import Any

from juliagpt_jax.books import archives, deduplication, reading, scorer
from juliagpt_jax.books.ledger import Ledger
from juliagpt_jax.books.reading import Book, Options
from juliagpt_jax.books.sources import Work
from juliagpt_jax.books.split import passages, smallest
from juliagpt_jax.ground import texts
from juliagpt_jax.ground.errors import StorageError, UserError

FATES = {
    "train": "training",
    "val": "validation",
    "poor": "quality under the threshold",
    "exact": "word for word an earlier passage",
    "near": "nearly an earlier passage",
    "guard": "beside validation text",
    "leak": "holds validation text",
}


@dataclasses.dataclass
class Corpus:
    """A corpus as it comes out of all stages.

    Attributes:
        books: with every chunk's fate.
        difficulty: of each book's chunks, nan for those that are in neither set.
        leaked: validation chunks that leaked before the training chunks that gave them away were left out.
        leaked_after: the same, after. Nothing but 0 is ever written.
        notes: files and members of archives that were left out.
    """

    books: list[Book]
    difficulty: list[list[float]]
    leaked: int
    leaked_after: int
    notes: list[str] = dataclasses.field(default_factory=list)


Progress = Callable[[str, int, Iterable[Any]], Iterable[Any]]  # (stage, steps, iterable) -> the same iterable


def run(works: list[Work], options: Options, budget: archives.Budget, jobs: int, progress: Progress) -> Corpus:
    """Take the works through all stages.

    Raises:
        UserError: a file that cannot be read (all of them are named), nothing to read, too little text to split
            (fault 14), or too much of the validation text in the training text (fault 19).
    """
    with _pool(jobs) as spread:
        tasks = [(work, options, budget) for work in works]
        books, notes, faults = [], [], []
        for part, said, fault in progress("read", len(works), spread(reading.attempt, tasks)):
            books += _within(part, budget)
            notes += said
            faults += [fault] if fault else []
        if faults and (options.errors != "skip" or not books):
            go_on = "--errors=skip leaves such files out" if len(faults) < len(works) else ""
            raise texts.refused(faults, len(works), go_on)
        _name(books)
        score(books, options, lambda f, tasks: progress("score", len(tasks), spread(f, tasks)))
    if not any(book.chunks for book in books):
        raise UserError(_no_text(books, options))
    deduplicate(books, options)
    split(books, options)
    leaked, leaked_after = unleak(books, options)
    return Corpus(books, _difficulty(books), leaked, leaked_after, notes)


def _no_text(books: list[Book], options: Options) -> str:
    """Return why nothing is left."""
    characters = sum(b.characters for b in books)
    message = f"--source: no running text: {characters:,} characters read, not one passage of {options.shortest} made"
    if sum(b.cleaned.counts["other alphabet"] for b in books) > 0.5 * sum(b.kept for b in books):
        sample = next(s for b in books for s in b.cleaned.samples("other alphabet"))
        return (
            f"{message}; most of its letters are outside the alphabet a-z ({sample[:30]}...), and prepare makes "
            "English text; main's --config.data.path takes a .txt file as it is"
        )
    ledger = Ledger()
    for book in books:
        ledger.add(book.ledger)
    most = [f"{rule} {n:,}" for rule, n in ledger.counts.most_common(3) if n]
    return f"{message}{'; left out: ' if most else ''}{', '.join(most)}"


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[Callable[[Callable[[Any], Any], list[Any]], Iterable[Any]]]:
    """Return a `map` in order, over processes or in this one. Processes are spawned: forking one with threads may hang.

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


def _within(books: list[Book], budget: archives.Budget) -> list[Book]:
    """Return the books, once the budget is counted over all processes: each of them has the whole."""
    budget.total_bytes -= sum(book.characters for book in books)
    budget.files -= len(books)
    if budget.total_bytes < 0 or budget.files < 0:
        raise UserError("--source: more text or files than --max_bytes and --max_files allow")
    return books


def _name(books: list[Book]) -> None:
    """Give works of one archive ids of their own."""
    seen: Counter[str] = Counter()
    for book in books:
        seen[book.work.id] += 1
        if seen[book.work.id] > 1:
            book.work = dataclasses.replace(book.work, id=f"{book.work.id}_{seen[book.work.id]}")
    if len({b.work.id for b in books}) < len(books):
        raise UserError("--source: two works would have the same id; rename a file")


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
    """Return at most 300 chunks of a book, spread over it."""
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
    """Mark the chunks that are the same as an earlier one, or nearly: the first stays."""
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
            f"--source: too small to split: {sum(counts)} passages are left, {max(counts)} in the largest work; "
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
            f"--source: {len(leaked)} of {total} validation passages ({len(leaked) / total:.1%}) stand in the training "
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
