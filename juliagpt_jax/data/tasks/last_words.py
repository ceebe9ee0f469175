"""The last word of a passage, which is told by the whole of it and not by the last sentence alone (Paperno et al. 2016,
The LAMBADA dataset)."""

import re

from juliagpt_jax.data.tasks import files
from juliagpt_jax.data.tasks.task import SPLITS, Example, check_split, side
from juliagpt_jax.ground import texts
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.rows import Bad

SOURCE = "https://huggingface.co/datasets/EleutherAI/lambada_openai, or give a .txt file to make passages of"
FEWEST, MOST = 30, 150  # words of a passage
MOST_PASSAGES = 1_000
_SIGNS = ".,;:!?)\"'\u201d\u2019"
_END = re.compile(r"^(.*\S)\s+(\S*?[^\W\d_]\S*?)([.!?\"'\u201d\u2019]*)$", re.DOTALL)
_WORD = re.compile(r"[^\W\d_][\w'\u2019-]*")


def last_words(split: str, path: str | None) -> list[Example]:
    """Return passages of a .jsonl file, each whole under "text"; or those of a .txt file that are like LAMBADA's: some
    sentences long, the last word a long one that stands before the last sentence too. LAMBADA's own last word is the
    end of its text; of a passage of a .txt file the sign behind it is left out.
    """
    check_split(split)
    names = {part: [f"{part}.jsonl", "lambada_test_en.jsonl", "lambada_test.jsonl"] for part in SPLITS}
    given = texts.path(path) if path else None
    if given and given.suffix.lower() == ".txt" and given.is_file():
        return _passages(str(given), texts.decode(str(given), texts.read_bytes(given)).text, split)

    def make(row: files.Row) -> Example:
        before, _, word = files.text(row, "text").rpartition(" ")
        if not before:
            raise Bad('"text" has one word')
        return _example(before, word)

    return files.examples(files.find(split, path, names, SOURCE), make)


def right(example: Example, written: str) -> bool:
    """Tell whether the first word that is written is the last of the passage, whatever sign stands behind it."""
    said = (written.split() or [""])[0]
    return said.strip(_SIGNS) == example.answer.strip()


def _example(before: str, word: str) -> Example:
    return Example(before, f" {word}", facts={"seen": word.lower() in {w.lower() for w in _WORD.findall(before)}})


def _passages(file: str, content: str, split: str) -> list[Example]:
    """Return the passages of a text that belong to a part: the lines that may be one, one in 20 of them to test on."""
    found = {}
    for line in content.split("\n"):
        words = line.split()
        own = _END.match(" ".join(words)) if FEWEST <= len(words) <= MOST else None
        if not own or len(own[2]) < 4:
            continue
        before, word = own[1], own[2]
        earlier = re.split(r"[.!?]", before)[:-1]
        if word.lower() in {w.lower() for w in _WORD.findall(" ".join(earlier))} and side(before) == split:
            found[before] = _example(before, word)
    if not found:
        raise UserError(f"{file}: no passage of {FEWEST} to {MOST} words in a line that ends in a word said before")
    return list(found.values())[:MOST_PASSAGES]
