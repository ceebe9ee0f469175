"""Text to token ids and back. A tokenizer is saved as JSON beside the run and read back by its "type"."""

import json
from pathlib import Path

import numpy as np

from juliagpt_jax.config import near
from juliagpt_jax.errors import UserError
from juliagpt_jax.files import write_json


class CharTokenizer:
    """One token a character; ids follow the sorted order of the characters. The round trip is exact.

    Attributes:
        characters: the vocabulary, sorted.
        dtype: the smallest unsigned integer type that holds every id.
    """

    type = "char"

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

    @staticmethod
    def describe(characters: str) -> str:
        """Characters for an error message: "'é' (U+00E9), '\\t' (U+0009)", at most ten."""
        names = [f"{c!r} (U+{ord(c):04X})" for c in characters[:10]]
        return ", ".join(names) + (f" and {len(characters) - 10} more" if len(characters) > 10 else "")

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


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


TOKENIZERS = {"char": CharTokenizer}


def save(tokenizer: CharTokenizer, path: Path) -> None:
    """Write the tokenizer's JSON in one step, so that a reader never sees half of it."""
    write_json(path, tokenizer.to_dict())


def load(path: Path) -> CharTokenizer:
    """Read a tokenizer file.

    Raises:
        UserError: it is missing, not JSON, of an unknown type, or its vocabulary is not one.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        kind = values["type"]
        if kind not in TOKENIZERS:
            raise UserError(f"{path}: no tokenizer is called {kind!r}{near(str(kind), TOKENIZERS)}")
        return TOKENIZERS[kind].from_dict(values)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a tokenizer file: {type(error).__name__}: {error}") from error
