"""Text to token ids and back. A tokenizer is saved as JSON beside the run and read back by its "type"."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from juliagpt_jax.data import folding
from juliagpt_jax.data.library import LibraryTokenizer
from juliagpt_jax.data.prompts import Prompting
from juliagpt_jax.ground import sealed, texts
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.words import near


class CharTokenizer(Prompting):
    """One token a character; ids follow the sorted order of the characters. The round trip is exact.

    Attributes:
        characters: the vocabulary, sorted.
        dtype: the smallest unsigned integer type that holds every id.
    """

    type = "char"
    unit = "character"  # one token in words
    prefix: tuple[int, ...] = ()  # ids before a prompt
    first: int | None = None  # the special id that begins a text
    eos: int | None = None  # the special id that ends a text
    stops: tuple[int, ...] = ()  # ids with which a model ends what it writes
    template: str | None = None  # of a conversation
    marks_start = False  # the ids of a text begin with a sign of its start

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

    def name(self, token: int) -> str:
        """The string by which the tokenizer.json knows an id."""
        return self.characters[token]

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


def from_huggingface(
    content: dict,
    vocab_size: int,
    first: int | None,
    special: Mapping[str, int] = MappingProxyType({}),
    ends: Sequence[int] = (),
    template: str | None = None,
) -> "CharTokenizer | LibraryTokenizer":
    """The tokenizer of a tokenizer.json; one that `CharTokenizer.to_huggingface` wrote becomes that again.

    Args:
        content, vocab_size, first, special, ends, template: as of `LibraryTokenizer`.

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
    return LibraryTokenizer(content, vocab_size, first, special, ends, template)


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
    sealed.write_json(path, tokenizer.to_dict())


def digest(tokenizer: Tokenizer) -> str:
    """Return the SHA-256 of a tokenizer, as `tokenize` writes it into the file: by it a run, its report and its model
    card name the tokens. What stands before a text (`first`) is the run's, and does not count."""
    values = tokenizer.to_dict()
    return sealed.digest(values | {"first": None} if "first" in values else values)


def from_dict(values: Any) -> Tokenizer:
    """The tokenizer that `to_dict` described.

    Raises:
        UserError: none is called that, or its vocabulary is not one.
        KeyError, TypeError, ValueError, AttributeError: not such a description.
    """
    if isinstance(values.get("model"), dict) and "type" not in values:
        made = "python -m juliagpt_jax.tokenize --from=FOLDER --out=DIR makes one of it"
        raise UserError(f"a tokenizer.json of the library tokenizers, not of a run; {made}")
    kind = values["type"]
    if kind not in TOKENIZERS:
        raise UserError(f"no tokenizer is called {kind!r}{near(str(kind), TOKENIZERS)}")
    return TOKENIZERS[kind].from_dict(values)


def load(path: Path) -> Tokenizer:
    """Read a tokenizer file; a ~ at the start of its path is the home folder.

    Raises:
        UserError: it is missing, changed since it was written, not JSON, of an unknown type, or its vocabulary is
            not one.
    """
    path = texts.path(str(path))
    try:
        return from_dict(sealed.read_json(path))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except sealed.Changed:
        raise
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not a tokenizer file: {type(error).__name__}: {error}") from error
