"""Byte-level BPE: tokens that are learned from a text.

The 256 bytes of UTF-8 are tokens, so every text has ids and comes back to the byte. A text is cut into pieces as GPT-2
does (Radford et al. 2019): letters, figures or other signs, each with the blank before them, and blanks. Inside of
pieces the two neighbours that are most frequent become one token, and so on, until there are enough (Sennrich et al.
2016, arXiv 1508.07909). What is learned follows from how often each piece occurs, so neither the order of files nor the
number of cores changes a token.
"""

import json
import re
from collections.abc import Iterable, Iterator

from juliagpt_jax.data.library import LibraryTokenizer, tasks
from juliagpt_jax.ground.errors import UserError

SPECIAL = ("<bos>", "<eos>", "<pad>")  # ids 0, 1, 2; no text has them
# What stands in a text for a rare word, as in WikiText-2. As with other words, the blank before it belongs to it.
UNKNOWN = (" <unk>", "<unk>")
MOST = 2**20
DIFFERENT = 2**23  # characters of different words that are learned from
RARE = 2  # a pair that occurs less often is no token


def check(vocab: int, unk: bool, flag: str = "vocab") -> None:
    """Hold the size of a vocabulary to its limits.

    Raises:
        UserError: it has no place for the bytes, or is too large; `flag` is its name on the command line.
    """
    least = 256 + len(SPECIAL) + (len(UNKNOWN) if unk else 0)
    if not least <= vocab <= MOST:
        taken = f"the 256 bytes, {', '.join(SPECIAL)}{', and <unk> with and without a blank before it,' if unk else ''}"
        raise UserError(f"{flag}={vocab} must be from {least} to {MOST:,}: {taken} take {least} tokens")


def train(texts: Iterable[str], vocab: int, unk: bool = False) -> LibraryTokenizer:
    """Learn a vocabulary of at most `vocab` tokens; fewer where a text has not as many pairs.

    The texts are not kept: memory grows with the number of their different pieces, which `Bound` holds down.

    Args:
        unk: `<unk>` in a text is one token. Otherwise it is text as any other.

    Raises:
        UserError: as `check`.
    """
    check(vocab, unk)
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - (len(UNKNOWN) if unk else 0),
        min_frequency=RARE,
        special_tokens=[*SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(_without_unknown(texts) if unk else texts, trainer)
    if unk:  # behind the others: the library takes tokens of the trainer for special ones
        library.add_tokens([AddedToken(token, normalized=False, special=False) for token in UNKNOWN])
    content = json.loads(library.to_str())
    return LibraryTokenizer(content, library.get_vocab_size(), None, tasks(content))


class Bound:
    """Passes texts on as long as they have few different words; after that, without the words that are new.

    The library keeps each different piece of a text: 1.8 GB for two million pieces of nine letters, measured. A word
    that first appears behind so many others hardly makes a token.

    Attributes:
        left_out: words that were.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._known: set[str] = set()
        self._room = DIFFERENT

    def of(self, texts: Iterable[str]) -> Iterator[str]:
        """Pass texts on."""
        for text in texts:
            words = text.split(" ")
            new = [word for word in words if word not in self._known]
            if new and self._room <= 0:
                self.left_out += len(new)
                text = " ".join(word for word in words if word in self._known)
            elif new:
                self._known.update(new)
                self._room -= sum(map(len, new))
            yield text


def _without_unknown(texts: Iterable[str]) -> Iterator[str]:
    """Cut texts where `<unk>` stands: the library finds it before it cuts a text up, but not while it learns."""
    for text in texts:
        yield from re.split(" ?<unk>", text) if "<unk>" in text else (text,)
