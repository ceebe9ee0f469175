"""The bytes that each token of a model stands for, to hold what it writes to a form byte by byte."""

import re
from typing import Any

import numpy as np

from juliagpt_jax.data.tokenizer import CharTokenizer, Tokenizer

MOST_BYTES = 4  # of a character in UTF-8


class Vocabulary:
    """V tokens as bytes of UTF-8.

    Attributes:
        texts: the bytes of each token; b"" of one that is no text, as the end of one, or has not bytes of its own.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.texts = token_bytes(tokenizer)
        self._order = np.array([i for i, text in enumerate(self.texts) if text], np.int64)
        self._length = np.array([len(text) for text in self.texts], np.int64)[self._order]
        self._bytes = np.zeros((max(self._length, default=0), len(self._order)), np.uint8)
        for column, token in enumerate(self._order):
            self._bytes[: len(self.texts[token]), column] = np.frombuffer(self.texts[token], np.uint8)

    def __len__(self) -> int:
        return len(self.texts)

    def walk(self, table: np.ndarray, state: int) -> np.ndarray:
        """Return where each token leads from a state of an automaton, (V,): 0 where it may not come.

        Args:
            table: (S, 256), the next state of each byte; state 0 is that of what may not be, and leads to itself.
        """
        found = np.zeros(len(self.texts), table.dtype)
        alive, at = np.arange(len(self._order)), np.full(len(self._order), state, table.dtype)
        for place, read in enumerate(self._bytes):
            at = table[at, read[alive]]
            done = (self._length[alive] == place + 1) & (at > 0)
            found[self._order[alive[done]]] = at[done]
            going = (self._length[alive] > place + 1) & (at > 0)
            alive, at = alive[going], at[going]
            if not len(alive):
                break
        return found

    def characters(self) -> list[bytes]:
        """Return what the tokens of one character, and of one byte, stand for."""
        return sorted({text for text in self.texts if len(text) == 1 or _is_character(text)})

    def spell(self, text: str) -> list[int] | None:
        """Return tokens of a text, each as long as may be; None where the tokens have not all of it."""
        rest, ids = text.encode(), []
        known = {own: i for i, own in enumerate(self.texts) if own}
        while rest:
            length = next((n for n in range(len(rest), 0, -1) if rest[:n] in known), 0)
            if not length:
                return None
            ids.append(known[rest[:length]])
            rest = rest[length:]
        return ids


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """Return what each token stands for behind another text; b"" where it is nothing of its own."""
    if isinstance(tokenizer, CharTokenizer):
        return [character.encode("utf-8", "surrogatepass") for character in tokenizer.characters]
    content = tokenizer.content
    added = {token["id"]: token for token in content.get("added_tokens") or ()}
    kinds = _kinds(content.get("decoder"))
    known = next((i for i in range(tokenizer.vocab_size) if i not in added and _plain(tokenizer, i)), None)
    texts = []
    for token in range(tokenizer.vocab_size):
        name, own = tokenizer.name(token), added.get(token)
        if name is None or (own and own.get("special")):
            texts.append(b"")
        elif own:
            texts.append(own["content"].encode("utf-8", "surrogatepass"))
        elif "ByteLevel" in kinds:
            texts.append(bytes(_LETTERS[c] for c in name) if all(c in _LETTERS for c in name) else b"")
        elif "ByteFallback" in kinds and re.fullmatch("<0x[0-9A-Fa-f]{2}>", name):
            texts.append(bytes([int(name[3:5], 16)]))
        else:
            texts.append(_behind(tokenizer, known, token))
    return texts


def _kinds(decoder: Any) -> set[str]:
    if not isinstance(decoder, dict):
        return set()
    return {decoder["type"]}.union(*map(_kinds, decoder.get("decoders") or ()))


def _plain(tokenizer: Any, token: int) -> bool:
    return (tokenizer.name(token) or "").isascii() and tokenizer.decode(np.array([token])).isalpha()


def _behind(tokenizer: Any, known: int | None, token: int) -> bytes:
    """Return what a token adds to the text of one that is known, so that no blank at the start of a text is lost."""
    before = [] if known is None else [known]
    head, whole = tokenizer.decode(np.array(before, np.int64)), tokenizer.decode(np.array([*before, token]))
    own = whole[len(head) :] if whole.startswith(head) else ""
    return b"" if "\ufffd" in own else own.encode("utf-8", "surrogatepass")


def _is_character(text: bytes) -> bool:
    try:
        return len(text) <= MOST_BYTES and len(text.decode("utf-8", "surrogatepass")) == 1
    except UnicodeDecodeError:
        return False


# Byte-level BPE writes each byte as a letter: one that can be seen as itself, the others from U+0100 on.
_SEEN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_LETTERS = {chr(byte): byte for byte in _SEEN} | {
    chr(0x100 + n): byte for n, byte in enumerate(byte for byte in range(256) if byte not in _SEEN)
}
