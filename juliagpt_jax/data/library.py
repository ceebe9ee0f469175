"""Tokens of more than one character, by the library `tokenizers`: those of a model from outside, or learned here."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from juliagpt_jax.data import folding
from juliagpt_jax.data.prompts import Prompting
from juliagpt_jax.ground.errors import UserError

# Special tokens that carry their task in their name, as this project, GPT-2, Llama and ChatML write them.
TASKS = {
    "bos": ("<bos>", "<s>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos": ("<eos>", "</s>", "<|end_of_text|>", "<|endoftext|>"),
    "pad": ("<pad>",),
}
BATCH = 2**20  # characters that are encoded at once: the library notes more of each token than its id


class LibraryTokenizer(Prompting):
    """A tokenizer of the library `tokenizers`: what a tokenizer.json says.

    All text is text: `<|endoftext|>` in it gets the ids of its letters, not the special one. The round trip is exact,
    or the text is refused.

    Args:
        content: of the tokenizer.json.
        vocab_size: V of the model, which may have more ids than the tokenizer.
        first: the id that begins a text, None if the model does not say.
        special: ids by their task: "bos" begins a text, "eos" ends one, "pad" fills up. No text has them.
        ends: more ids with which a model ends what it writes, as a turn of a conversation.
        template: in Jinja, how a conversation is written (`data/chat.py`); None: the model has none.

    Attributes:
        prefix: the ids that the tokenizer puts before a prompt.
        lead: the id that stands before the first token of a text.
        eos: the id that ends a text; None: there is none.
        stops: the ids with which a model ends what it writes: eos and `ends`.
        marks_start: whether the ids of a text begin with a sign of its start, as those of SentencePiece do: then the
            ids of two texts, one behind the other, are not those of both.
    """

    type = "library"
    unit = "token"

    def __init__(
        self,
        content: dict,
        vocab_size: int,
        first: int | None,
        special: Mapping[str, int] = MappingProxyType({}),
        ends: Sequence[int] = (),
        template: str | None = None,
    ):
        from tokenizers import Tokenizer

        try:
            _check_merges(content)
            self._library: Any = Tokenizer.from_str(json.dumps(content))
            self._library.no_padding()
            self._library.no_truncation()
            self.prefix = tuple(self._library.encode("", add_special_tokens=True).ids)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises no class of its own, and in a panic no Exception
            raise UserError(f"not a tokenizer that the library tokenizers reads: {error}") from error
        self._library.encode_special_tokens = True
        if not all(isinstance(number, int) for number in (vocab_size, *special.values(), *ends)):
            raise TypeError("the size of the vocabulary and the ids with a task are whole numbers")
        if not isinstance(template, str | None):
            raise TypeError("a chat template is a text")
        self.special, self.template = dict(special), template
        tasks = (first or 0, *self.special.values(), *ends)
        highest = max([*self._library.get_vocab(with_added_tokens=True).values(), *tasks])
        if not highest < vocab_size < 2**31 or min(*tasks, 0) < 0:
            raise UserError(f"it has ids up to {highest}, and the model {vocab_size} embeddings")
        self.content, self.first, self.vocab_size = content, first, vocab_size
        self.eos = self.special.get("eos")
        self.stops = tuple(sorted({*ends} | ({self.eos} if self.eos is not None else set())))
        self.dtype = np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
        self._returns: dict[str, bool] = {}  # whether a character comes back
        letters = sorted(token for token in self._library.get_vocab(with_added_tokens=False) if len(token) == 1)
        self._known = next(filter(self._gives_back, letters), "")
        if self.prefix and self._known:  # some tokenizers put an id behind a text, too, or there alone
            alone, whole = (self._library.encode(self._known, add_special_tokens=own).ids for own in (False, True))
            at = next((i for i in range(len(whole)) if whole[i : i + len(alone)] == alone), len(self.prefix))
            self.prefix = tuple(whole[:at])
        twice = [*self._library.encode(self._known, add_special_tokens=False).ids] * 2
        self.marks_start = self._library.decode(twice, skip_special_tokens=False) != self._known * 2
        self.lead = self.prefix[0] if self.prefix else first if first is not None else max(0, self.newline)

    @property
    def newline(self) -> int:
        """The id of the end of a line; -1 where it is not one token."""
        ids = [] if self.unknown("\n") else self._library.encode("\n", add_special_tokens=False).ids
        while len(ids) > 1 and not self.decode(np.array(ids[:1])):  # a sign that stands for the start of a text
            ids = ids[1:]
        return ids[0] if len(ids) == 1 else -1

    def encode(self, text: str, unknown: str = "error") -> np.ndarray:
        """Ids of the text; see `CharTokenizer.encode`.

        Raises:
            UserError: characters that the tokenizer lacks, or a text that it does not give back.
        """
        (ids,) = self._given_back([text], unknown, self._alone)
        return np.array(ids, self.dtype)

    def encode_each(self, texts: Iterable[str], unknown: str = "error") -> tuple[np.ndarray, np.ndarray]:
        """Ids of several texts, one behind the other, and how many of them each text has. Each is encoded for itself,
        many at a time: on all cores, in a memory that does not grow with their number.

        Raises:
            UserError: as `encode`.
        """
        ids, lengths = [np.zeros(0, self.dtype)], [np.zeros(0, np.int64)]
        for batch in batches(texts, BATCH):
            each = self._given_back(batch, unknown, self._batch)
            ids.extend(np.array(own, self.dtype) for own in each)
            lengths.append(np.array([len(own) for own in each], np.int64))
        return np.concatenate(ids), np.concatenate(lengths)

    def _given_back(self, texts: list[str], unknown: str, encode: Callable[[list[str]], list[list[int]]]) -> Any:
        """Return the ids of texts that come back from them, without the characters that the tokenizer lacks where
        `unknown` says so. These are looked for only where a text does not come back as it is."""
        found = self._exact(texts, encode)
        if found is not None:
            return found
        lacking = self.unknown("".join(texts))
        if lacking and unknown == "error":
            raise UserError(f"characters the tokenizer lacks: {self.describe(lacking)}")
        found = self._exact([text.translate(dict.fromkeys(map(ord, lacking))) for text in texts], encode)
        if found is None:
            raise UserError("the tokenizer does not give this text back: it changes it before it cuts it up")
        return found

    def _exact(self, texts: list[str], encode: Callable[[list[str]], list[list[int]]]) -> list[list[int]] | None:
        try:
            ids = encode(texts)
            return ids if self._library.decode_batch(ids, skip_special_tokens=False) == texts else None
        except Exception:  # what the library raises depends on the kind of tokenizer, also for a lone surrogate
            return None

    def _alone(self, texts: list[str]) -> list[list[int]]:
        return [self._library.encode(text, add_special_tokens=False).ids for text in texts]

    def _batch(self, texts: list[str]) -> list[list[int]]:
        return [found.ids for found in self._library.encode_batch_fast(texts, add_special_tokens=False)]

    def unknown(self, text: str) -> str:
        """Return the characters of the text that come back neither when they are encoded alone nor behind another,
        sorted. (A tokenizer that marks the start of a word drops the blank before the first.)"""
        characters = set(text)
        for character in characters.difference(self._returns):
            self._returns[character] = self._gives_back(character) or self._gives_back(self._known + character * 2)
        return "".join(sorted(c for c in characters if not self._returns[c]))

    def _gives_back(self, text: str) -> bool:
        return self._exact([text], self._alone) is not None

    describe = staticmethod(folding.describe)

    def decode(self, ids: np.ndarray) -> str:
        """The text of a one-dimensional array of ids; of an id between the tokenizer's and V nothing.

        Raises:
            IndexError: an id is outside 0 .. V - 1.
        """
        ids = np.asarray(ids, np.int64)
        if ((ids < 0) | (ids >= self.vocab_size)).any():
            raise IndexError(f"an id is outside the vocabulary of {self.vocab_size}")
        return self._library.decode(ids.tolist(), skip_special_tokens=False)

    def begun_by(self, first: int) -> "LibraryTokenizer":
        """Return this tokenizer for texts that begin behind the id `first`, as documents do behind the end of
        another."""
        return LibraryTokenizer(self.content, self.vocab_size, first, self.special, self.stops, self.template)

    def name(self, token: int) -> str | None:
        """The string by which the tokenizer.json knows an id; None: it has no such id."""
        return self._library.id_to_token(token)

    def to_dict(self) -> dict:
        own = {"type": self.type, "content": self.content, "vocab_size": self.vocab_size, "first": self.first}
        ends = [token for token in self.stops if token != self.eos]
        more = {"special": self.special, "ends": ends, "template": self.template}
        return own | {name: value for name, value in more.items() if value}

    @classmethod
    def from_dict(cls, values: dict) -> "LibraryTokenizer":
        more = values.get("special", {}), values.get("ends", ()), values.get("template")
        return cls(values["content"], values["vocab_size"], values["first"], *more)

    def to_huggingface(self) -> dict:
        """The content of a tokenizer.json."""
        return self.content

    def special_names(self) -> dict[str, str]:
        """Return what transformers' tokenizer_config.json calls the special tokens: {"eos_token": "<eos>"}."""
        named = {f"{task}_token": self.name(token) for task, token in self.special.items()}
        return {task: name for task, name in named.items() if name is not None}


def _check_merges(content: dict) -> None:
    """Raise a ValueError where a merge lacks the mark that the model says it has: the library would end in a panic,
    which it tells at length."""
    model = content["model"]
    mark = model.get("continuing_subword_prefix")
    for merge in model.get("merges") or () if mark else ():
        parts = merge if isinstance(merge, list) else str(merge).split(" ")
        if not str(parts[-1]).startswith(str(mark)):
            raise ValueError(f"merge {str(merge)[:60]} without continuing_subword_prefix={str(mark)[:20]!r}")


def tasks(content: Mapping[str, Any]) -> dict[str, int]:
    """Find the ids with a task among the special tokens of a tokenizer.json, by the names of TASKS: {"eos": 1}."""
    added = content.get("added_tokens")
    tokens = [token for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    ids = {str(token.get("content")): token.get("id") for token in tokens if token.get("special")}
    named = {task: next((ids[name] for name in names if name in ids), None) for task, names in TASKS.items()}
    return {task: token for task, token in named.items() if token is not None}


def batches(texts: Iterable[str], characters: int) -> Iterator[list[str]]:
    """Gather texts into lists of about so many characters."""
    batch, size = [], 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
