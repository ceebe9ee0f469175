"""Text to token ids and back. A tokenizer is saved as JSON beside the run and read back by its "type"."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from juliagpt_jax.data import folding
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.sealed import Changed, read_json, write_json
from juliagpt_jax.ground.words import near


class Prompt(NamedTuple):
    """The tokens that a model reads before it writes.

    Attributes:
        ids: (n,) int32, at least one.
        hidden: how many ids at their start are no part of the text.
    """

    ids: np.ndarray
    hidden: int


class Prompting:
    """Prompts of every tokenizer."""

    def prompt(self: Any, text: str, unknown: str = "error", begins: bool = False) -> Prompt:
        """Return the ids of a prompt, the same for every command: the prefix, then the text's. Where both are nothing,
        `lead` stands there, so that an empty prompt begins a text.

        Args:
            unknown: as of `folding.encode`.
            begins: the prompt is the beginning of a text, not a place in it: without a prefix `lead` stands before it.

        Raises:
            UserError: characters that the tokenizer lacks.
        """
        own = folding.encode(self, text, unknown)
        before = self.prefix or ((self.lead,) if begins or not len(own) else ())
        return Prompt(np.array([*before, *own.tolist()], np.int32), len(before))


class CharTokenizer(Prompting):
    """One token a character; ids follow the sorted order of the characters. The round trip is exact.

    Attributes:
        characters: the vocabulary, sorted.
        dtype: the smallest unsigned integer type that holds every id.
    """

    type = "char"
    prefix: tuple[int, ...] = ()  # ids before a prompt
    first: int | None = None  # the special id that begins a text
    eos: int | None = None  # the special id that ends a document

    def __init__(self, characters: str):
        if list(characters) != sorted(set(characters)) or not characters:
            raise UserError("a character vocabulary must be sorted, without repetition and not empty")
        self.characters = characters
        self.dtype = np.dtype(
            np.uint8 if len(characters) <= 2**8 else np.uint16 if len(characters) <= 2**16 else np.uint32
        )
        self._codes = np.array([ord(c) for c in characters], np.uint32)

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """The vocabulary is every character of the text."""
        return cls("".join(map(chr, np.unique(_codes(text)))))

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    @property
    def newline(self) -> int:
        """The id of the end of a line; -1 where the vocabulary has none."""
        return self.characters.find("\n")

    @property
    def lead(self) -> int:
        """The id that stands before the first token of a text: the end of a line, else the first id."""
        return max(0, self.newline)

    def encode(self, text: str, unknown: str = "error") -> np.ndarray:
        """Ids of the text. Every character of it is text: no sequence has a special meaning.

        Args:
            unknown: what to do with characters that are not in the vocabulary: "error", or "skip" to leave them out.

        Raises:
            UserError: names the unknown characters.
        """
        codes = _codes(text)
        ids = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        known = self._codes[ids] == codes
        if not known.all():
            if unknown == "error":
                raise UserError(f"characters the tokenizer lacks: {self.describe(self.unknown(text))}")
            ids = ids[known]
        return ids.astype(self.dtype)

    def unknown(self, text: str) -> str:
        """The characters of the text that are not in the vocabulary, sorted."""
        return "".join(sorted(set(text) - set(self.characters)))

    describe = staticmethod(folding.describe)

    def decode(self, ids: np.ndarray) -> str:
        """The text of a one-dimensional array of ids.

        Raises:
            IndexError: an id is outside the vocabulary.
        """
        ids = np.asarray(ids)
        if (ids < 0).any():
            raise IndexError(f"id {ids.min()} is outside the vocabulary")
        return self._codes[ids].astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def to_dict(self) -> dict:
        return {"type": self.type, "characters": self.characters}

    @classmethod
    def from_dict(cls, values: dict) -> "CharTokenizer":
        return cls(values["characters"])

    def to_huggingface(self) -> dict:
        """The content of a tokenizer.json with which the library `tokenizers`, and so transformers, does the same. A
        character that is not in the vocabulary is an error there, too.

        Raises:
            UserError: the vocabulary has half of a surrogate pair, for which UTF-8 has no place.
        """
        if any("\ud800" <= c <= "\udfff" for c in self.characters):
            raise UserError("the vocabulary has surrogates, which no tokenizer.json can hold")
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": r"[\s\S]"},
                "behavior": "Isolated",
                "invert": False,
            },
            "post_processor": None,
            "decoder": {"type": "Fuse"},
            "model": {
                "type": "WordLevel",
                "vocab": {character: i for i, character in enumerate(self.characters)},
                "unk_token": "unknown character",  # of more than one character, so it is not in the vocabulary
            },
        }


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


class LibraryTokenizer(Prompting):
    """A tokenizer of the library `tokenizers`: what the tokenizer.json of a model from outside says.

    All text is text: `<|endoftext|>` in it gets the ids of its letters, not the special one. The round trip is exact,
    or the text is refused.

    Args:
        content: of the tokenizer.json.
        vocab_size: V of the model, which may have more ids than the tokenizer.
        first: the id that begins a text, None if the model does not say.

    Attributes:
        prefix: the ids that the tokenizer puts before a prompt.
        lead: the id that stands before the first token of a text.
        marks_start: whether the ids of a text begin with a sign of its start, as those of SentencePiece do: then the
            ids of two texts, one behind the other, are not those of both.
    """

    type = "library"
    eos: int | None = None  # the special id that ends a document

    def __init__(self, content: dict, vocab_size: int, first: int | None):
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise UserError("needs the library tokenizers: pip install 'juliagpt-jax[hf]'") from error
        try:
            self._library: Any = Tokenizer.from_str(json.dumps(content))
            self._library.no_padding()
            self._library.no_truncation()
            self.prefix = tuple(self._library.encode("", add_special_tokens=True).ids)
        except Exception as error:  # the library raises no class of its own
            raise UserError(f"not a tokenizer that the library tokenizers reads: {error}") from error
        self._library.encode_special_tokens = True
        highest = max([*self._library.get_vocab(with_added_tokens=True).values(), -1])
        if not highest < vocab_size < 2**31 or (first is not None and not 0 <= first < vocab_size):
            raise UserError(f"it has ids up to {max(highest, first or 0)}, and the model {vocab_size} embeddings")
        self.content, self.first, self.vocab_size = content, first, vocab_size
        self.dtype = np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
        self._returns: dict[str, bool] = {}  # whether a character comes back
        letters = sorted(token for token in self._library.get_vocab(with_added_tokens=False) if len(token) == 1)
        self._known = next(filter(self._gives_back, letters), "")
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
        lacking = self.unknown(text)
        if lacking and unknown == "error":
            raise UserError(f"characters the tokenizer lacks: {CharTokenizer.describe(lacking)}")
        if lacking:
            text = text.translate(dict.fromkeys(map(ord, lacking)))
        ids = np.array(self._library.encode(text, add_special_tokens=False).ids, self.dtype)
        if self.decode(ids) != text:
            raise UserError("the tokenizer does not give this text back: it changes it before it cuts it up")
        return ids

    def unknown(self, text: str) -> str:
        """Return the characters of the text that come back neither when they are encoded alone nor behind another,
        sorted. (A tokenizer that marks the start of a word drops the blank before the first.)"""
        for character in set(text) - set(self._returns):
            self._returns[character] = self._gives_back(character) or self._gives_back(self._known + character * 2)
        return "".join(sorted(c for c in set(text) if not self._returns[c]))

    def _gives_back(self, text: str) -> bool:
        try:
            ids = self._library.encode(text, add_special_tokens=False).ids
            return self._library.decode(ids, skip_special_tokens=False) == text
        except Exception:  # what the library raises depends on the kind of tokenizer, also for a lone surrogate
            return False

    describe = staticmethod(CharTokenizer.describe)

    def decode(self, ids: np.ndarray) -> str:
        """The text of a one-dimensional array of ids; of an id between the tokenizer's and V nothing.

        Raises:
            IndexError: an id is outside 0 .. V - 1.
        """
        ids = np.asarray(ids, np.int64)
        if ((ids < 0) | (ids >= self.vocab_size)).any():
            raise IndexError(f"an id is outside the vocabulary of {self.vocab_size}")
        return self._library.decode(ids.tolist(), skip_special_tokens=False)

    def to_dict(self) -> dict:
        return {"type": self.type, "content": self.content, "vocab_size": self.vocab_size, "first": self.first}

    @classmethod
    def from_dict(cls, values: dict) -> "LibraryTokenizer":
        return cls(values["content"], values["vocab_size"], values["first"])

    def to_huggingface(self) -> dict:
        """The content of a tokenizer.json."""
        return self.content


def from_huggingface(content: dict, vocab_size: int, first: int | None) -> "CharTokenizer | LibraryTokenizer":
    """The tokenizer of a tokenizer.json; one that `CharTokenizer.to_huggingface` wrote becomes that again.

    Raises:
        UserError: it is none, or has ids that the model has not.
    """
    model = content.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, dict) and vocab and all(len(token) == 1 for token in vocab):
        tokenizer = CharTokenizer("".join(sorted(vocab)))
        if tokenizer.to_huggingface() == content:
            if tokenizer.vocab_size != vocab_size:
                raise UserError(f"it has {tokenizer.vocab_size} characters, and the model {vocab_size} embeddings")
            return tokenizer
    return LibraryTokenizer(content, vocab_size, first)


Tokenizer = CharTokenizer | LibraryTokenizer
TOKENIZERS = {"char": CharTokenizer, "library": LibraryTokenizer}


def stream_text(tokenizer: Tokenizer, prompt: Iterable[int], pieces: Iterable[Iterable[int]]) -> Iterator[str]:
    """The text of tokens as they come, behind a prompt's: one text for each piece, and one for what is left. What may
    be the first part of a character waits for the rest."""
    ids = list(prompt)
    shown = len(tokenizer.decode(np.array(ids, np.int64)))
    for piece in pieces:
        ids.extend(piece)
        text = tokenizer.decode(np.array(ids, np.int64)).rstrip("\ufffd")
        yield text[shown:]
        shown = max(shown, len(text))
    yield tokenizer.decode(np.array(ids, np.int64))[shown:]


def save(tokenizer: Tokenizer, path: Path) -> None:
    """Write the tokenizer's JSON in one step, so that a reader never sees half of it."""
    write_json(path, tokenizer.to_dict())


def from_dict(values: Any) -> Tokenizer:
    """The tokenizer that `to_dict` described.

    Raises:
        UserError: none is called that, or its vocabulary is not one.
        KeyError, TypeError, ValueError: not such a description.
    """
    kind = values["type"]
    if kind not in TOKENIZERS:
        raise UserError(f"no tokenizer is called {kind!r}{near(str(kind), TOKENIZERS)}")
    return TOKENIZERS[kind].from_dict(values)


def load(path: Path) -> Tokenizer:
    """Read a tokenizer file.

    Raises:
        UserError: it is missing, changed since it was written, not JSON, of an unknown type, or its vocabulary is
            not one.
    """
    try:
        return from_dict(read_json(path))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except Changed:
        raise
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a tokenizer file: {type(error).__name__}: {error}") from error
