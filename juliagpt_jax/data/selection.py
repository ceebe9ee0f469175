"""Choose the part of a corpus that a run trains on: filter, keep, scores and phase weights, in the language of `query`.

Fields are the corpus's own, `chunk` (the id), `length` (in tokens), and those of data.scores. First the filter, then
`keep` on what is left; the passages left are packed in reading order, with weights each phase for itself.
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.data import addressed, mixture, streamed
from juliagpt_jax.data.corpus import Corpus
from juliagpt_jax.data.metadata import Chunks, Column, Words
from juliagpt_jax.data.orders import ORDERS, PACINGS
from juliagpt_jax.data.query import COMPARISONS, Condition, Keep, number, parse_filter, parse_keep, parse_weights
from juliagpt_jax.data.sampler import Curriculum, Plan, cut
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import read_arrays
from juliagpt_jax.ground.words import near

WORDS = {"data.order": ORDERS, "data.curriculum.pacing": PACINGS}


@dataclasses.dataclass(frozen=True)
class Selection:
    """The passages that a run trains on, packed.

    Attributes:
        tokens: of the passages selected, packed.
        chunks: these passages, in the same order.
        ids: their numbers in the whole training text.
        rings: names of the parts that windows don't cross and that have a weight each; empty without weights.
        sizes, weights: tokens and share of each.
        fingerprint: SHA-256 of what decides the batches beside the config: the corpus, scores and weights read.
        notes: for the reader of the numbers.
        tokenizer: that of the tokens.
        stages: of a mixture of shards, which stay on the disk; rings are its sources. (): a text in memory.
    """

    tokens: Any
    chunks: Chunks
    ids: np.ndarray
    rings: tuple[str, ...]
    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    fingerprint: str
    notes: tuple[str, ...]
    tokenizer: Tokenizer
    stages: tuple[mixture.Stage, ...] = ()


def check(data: config.Data) -> None:
    """Refuse at once what can be seen to be wrong without the corpus.

    Raises:
        UserError: as the `parse` functions.
    """
    parse_filter(data.filter)
    parse_keep(data.keep)
    parse_weights(data.phase_weights, data.weights_by)


def matching(chunks: Chunks, text: str) -> np.ndarray:
    """Ids of the passages that meet all conditions of a data.filter.

    Raises:
        UserError: the form is wrong, or no passage has the field or the word.
    """
    met = [_holds(condition, chunks) for condition in parse_filter(text)]
    return np.flatnonzero(np.logical_and.reduce(met)) if met else np.arange(len(chunks))


def select(corpus: Corpus, data: config.Data, seed: int, context: int) -> Selection:
    """Choose what `data` leaves of the corpus's training text. Without filter, keep and weights: all of it, as it lies.

    Args:
        seed: of the passages that `keep` draws at random.

    Raises:
        UserError: a field or a word that no passage has, scores of another text, or too little left.
    """
    if corpus.on_disk is not None:
        return _streamed(corpus, corpus.on_disk, context)
    chunks, read, notes = corpus.train_chunks, [corpus.fingerprint], []
    if data.scores:
        scores, digest = _scores(Path(data.scores), corpus)
        chunks = dataclasses.replace(chunks, columns=chunks.columns | scores)
        read.append(digest)
    chosen = np.ones(len(chunks), bool)
    for condition in parse_filter(data.filter):
        chosen &= _holds(condition, chunks)
    ids = np.flatnonzero(chosen)
    keep = parse_keep(data.keep)
    if keep:
        ids = _kept(keep, chunks, ids, seed)
    kept = chunks.take(ids) if len(ids) < len(chunks) else chunks
    left = int(kept.lengths.sum())
    if len(ids) < len(chunks):
        notes.append(f"{len(ids):,} of {len(chunks):,} training passages selected, {left:,} tokens")
    if left < context + 1:
        raise UserError(
            f"config.data: filter and keep leave {len(ids)} passages with {left} tokens, {context + 1} needed for "
            f"model.context={context}"
        )
    weights = parse_weights(data.phase_weights, data.weights_by)
    if not weights:
        mask = np.zeros(len(chunks), bool)
        mask[ids] = True
        tokens = corpus.train if len(ids) == len(chunks) else corpus.train[np.repeat(mask, chunks.lengths)]
        return Selection(tokens, kept, ids, (), (), (), _digest(*read), tuple(notes), corpus.tokenizer)
    groups = split_by(kept, data.weights_by, "config.data.weights_by")
    for name in weights:
        if name not in groups:
            there = _there(name, groups)
            raise UserError(f"config.data.phase_weights: no passage selected has {data.weights_by} {name!r}{there}")
    for name in groups:
        if name not in weights:
            raise UserError(f"config.data.phase_weights: no share for {name!r}; {name}:0 leaves it out")
    groups = {name: members for name, members in groups.items() if weights[name] > 0}
    pieces, sizes = [], []
    for name, members in groups.items():
        mask = np.zeros(len(chunks), bool)
        mask[ids[members]] = True
        pieces.append(np.asarray(corpus.train[np.repeat(mask, chunks.lengths)]))
        sizes.append(len(pieces[-1]))
        if sizes[-1] < context + 1:
            raise UserError(f"config.data.phase_weights: {name} has {sizes[-1]} tokens, {context + 1} needed")
    order = np.concatenate(list(groups.values()))
    shares = tuple(weights[name] for name in groups)
    read.append(repr(sorted(weights.items())))
    notes.append("shares drawn: " + ", ".join(f"{n} {s:.3f}" for n, s in zip(groups, shares, strict=True)))
    return Selection(
        np.concatenate(pieces), kept.take(order), ids[order], tuple(groups), tuple(sizes), shares, _digest(*read),
        tuple(notes), corpus.tokenizer,
    )  # fmt: skip


def _streamed(corpus: Corpus, own: streamed.Streamed, context: int) -> Selection:
    """All of a text of shards, its sources as rings."""
    for name, size in zip(own.mix.sources, own.sizes, strict=True):
        if size < context + 1:
            raise UserError(f"config.data.path: {name} has {size} tokens, {context + 1} needed")
    chunks, names = corpus.train_chunks, tuple(own.mix.sources)
    ids, digest = np.arange(len(chunks)), _digest(corpus.fingerprint)
    weights = own.mix.stages[0].weights
    return Selection(corpus.train, chunks, ids, names, own.sizes, weights, digest, (), corpus.tokenizer, own.mix.stages)


def _stages(chosen: Selection, batch: int, steps: int) -> tuple[addressed.Stage, ...]:
    """The stages of a selection by draws.

    Raises:
        UserError: they are not as long as the run.
    """
    if len(chosen.stages) == 1 and not chosen.stages[0].steps:
        return (addressed.Stage(steps * batch, chosen.stages[0].weights),)
    ends = np.cumsum([stage.steps for stage in chosen.stages]).tolist()
    if ends and ends[-1] != steps:
        raise UserError(f"config.train.steps: {steps:,}, and the stages of the mixture have {ends[-1]:,} steps")
    return tuple(addressed.Stage(end * batch, s.weights) for end, s in zip(ends, chosen.stages, strict=True))


def plan(chosen: Selection, data: config.Data, context: int, batch: int, steps: int, seed: int) -> Plan:
    """Plan how a selection is cut into windows and drawn.

    Raises:
        UserError: the order wants a field that no passage has, or one of words; stages are not as long as the run.
    """
    if chosen.stages:
        sizes, stages = chosen.sizes, _stages(chosen, batch, steps)
        return Plan(len(chosen.tokens), context, batch, seed, sizes, fixed=data.windows == "fixed", stages=stages)
    curriculum = None
    if data.order != "random":
        curriculum = Curriculum(
            order=data.order,
            pacing=data.curriculum.pacing,
            start=data.curriculum.pacing_start,
            parts=data.curriculum.parts,
            after=data.curriculum.after,
            epochs=data.curriculum.epochs,
            values=_numbers(data.curriculum.by, chosen.chunks, "config.data.curriculum.by"),
            lengths=chosen.chunks.lengths,
        )
    how = cut(data.windows, chosen.chunks.lengths)
    return Plan(
        len(chosen.tokens), context, batch, seed, chosen.sizes, chosen.weights, steps * batch, curriculum, **how
    )


def shares(corpus: Corpus, data: config.Data, seed: int, context: int) -> dict[str, float]:
    """Share of the draws of each word of data.weights_by: that of data.phase_weights, or of the tokens selected.

    Raises:
        UserError: as `select`.
    """
    chosen = select(corpus, data, seed, context)
    if chosen.rings:
        return dict(zip(chosen.rings, chosen.weights, strict=True))
    groups = split_by(chosen.chunks, data.weights_by, "config.data.weights_by")
    return {name: int(chosen.chunks.lengths[ids].sum()) / len(chosen.tokens) for name, ids in groups.items()}


def split_by(chunks: Chunks, field: str, flag: str) -> dict[str, np.ndarray]:
    """{word: the passages that have it, in their order} for the words of a field that occur, in alphabetical order."""
    column = _column(field, chunks, flag)
    if not isinstance(column, Words):
        raise UserError(f"{flag}: {field} is a field of numbers; a field of words is needed")
    members = {name: np.flatnonzero(column.codes == code) for code, name in enumerate(column.names)}
    return {name: ids for name, ids in members.items() if len(ids)}


def parts(chunks: Chunks, field: str) -> dict[str, np.ndarray]:
    """{word: which tokens of the text it has} for the words of a field; empty where the passages have no such field."""
    if not isinstance(chunks.columns.get(field), Words):
        return {}
    masks = {}
    for name, ids in split_by(chunks, field, field).items():
        own = np.zeros(len(chunks), bool)
        own[ids] = True
        masks[name] = np.repeat(own, chunks.lengths)
    return masks


def _column(field: str, chunks: Chunks, flag: str) -> Column:
    own = {
        "chunk": lambda: np.arange(len(chunks), dtype=np.float64),
        "length": lambda: chunks.lengths.astype(np.float64),
    }
    if field in chunks.columns:
        return chunks.columns[field]
    if field in own:
        return own[field]()
    raise UserError(f"{flag}: the passages have no field {field!r}{near(field, [*chunks.columns, *own])}")


def _numbers(field: str, chunks: Chunks, flag: str) -> np.ndarray:
    column = _column(field, chunks, flag)
    if isinstance(column, Words):
        raise UserError(f"{flag}: {field} is a field of words, such as {column.names[0]!r}; it needs numbers")
    return column


def _there(word: str, words: Iterable[str]) -> str:
    """For an error message: the words of a field that are near, or where such a field would come from."""
    named = [other for other in words if other]
    return near(word, named) if named else "; none has one: prepare takes it from a source_manifest.json in --source"


def _holds(condition: Condition, chunks: Chunks) -> np.ndarray:
    flag = "config.data.filter"
    column = _column(condition.field, chunks, flag)
    if isinstance(column, Words):
        if condition.how not in ("in", "not in", "==", "!="):
            raise UserError(f"{flag}: {condition.field} is a field of words, which {condition.how} does not compare")
        for word in condition.values:
            if word not in column.names:
                raise UserError(f"{flag}: no passage has {condition.field} {word!r}{_there(word, column.names)}")
        codes = [column.names.index(word) for word in condition.values]
        return np.isin(column.codes, codes, invert=condition.how in ("not in", "!="))
    numbers = [number(text) for text in condition.values]
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{flag}: {condition.field} is a field of numbers, {', '.join(condition.values)!r} is none")
    if condition.how in ("in", "not in"):
        return np.isin(column, numbers, invert=condition.how == "not in")
    return COMPARISONS[condition.how](column, numbers[0])


def _kept(keep: Keep, chunks: Chunks, ids: np.ndarray, seed: int) -> np.ndarray:
    count = max(1, round(keep.share * len(ids)))
    if not keep.which:
        rng = np.random.Generator(np.random.Philox(key=[seed, 2**63]))
        return np.sort(rng.permutation(ids)[:count])
    values = _numbers(keep.field, chunks, "config.data.keep")[ids]
    first = {"bottom": 0, "middle": (len(ids) - count) // 2, "top": len(ids) - count}[keep.which]
    return np.sort(ids[np.argsort(values, kind="stable")[first : first + count]])


def _scores(path: Path, corpus: Corpus) -> tuple[dict[str, Column], str]:
    """The fields of a scores file, in the order of the passages, and a hash of them."""
    flag = f"config.data.scores: {path}"
    try:
        arrays = read_arrays(path)
    except OSError as error:
        raise UserError(f"{flag}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{flag}: not an .npz file of scores: {error}") from error
    for name in ("chunk", "fingerprint"):
        if name not in arrays:
            raise UserError(f"{flag}: no array {name!r} in it; the command score writes such files")
    if str(arrays.pop("fingerprint")) != corpus.fingerprint:
        raise UserError(f"{flag}: scores of another text than this run's; score this one")
    ids, count = arrays.pop("chunk"), len(corpus.train_chunks)
    if ids.shape != (count,) or ids.dtype.kind not in "iu" or not np.array_equal(np.sort(ids), np.arange(count)):
        raise UserError(f"{flag}: its passages are not 0 to {count - 1:,}, each once")
    order, columns = np.argsort(ids), {}
    for name, values in sorted(arrays.items()):
        if name in corpus.train_chunks.columns:
            raise UserError(f"{flag}: {name!r} is a field of the passages already")
        if values.shape != (count,) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise UserError(f"{flag}: {name!r} is not a finite number for each passage")
        columns[name] = values[order].astype(np.float64)
    return columns, _digest(*(name.encode() + values.tobytes() for name, values in columns.items()))


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part if isinstance(part, bytes) else part.encode()).digest())
    return digest.hexdigest()
