"""Is a sentence of a film review positive or negative? The Stanford Sentiment Treebank with two labels (Socher et al.
2013), as whole sentences and as GLUE has it, with phrases."""

from juliagpt_jax.data.tasks import files
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.ground.rows import Bad

LABELS = {"0": " negative", "1": " positive"}
COLUMNS = ("sentence", "label")
NAMES = {split: [f"{split}.tsv", f"{split}.csv", f"{split}.jsonl"] for split in ("train", "dev", "test")}
SENTENCES = "https://github.com/clairett/pytorch-sentiment-classification; " + files.PREPARE.format("sst2")
PHRASES = "https://gluebenchmark.com/tasks (SST-2); its dev.tsv has the labels that its test.tsv lacks"


def sentences(split: str, path: str | None) -> list[Example]:
    """Return the whole sentences, 6,920 to train on, 872 and 1,821 to test on."""
    return _read(split, path, SENTENCES)


def phrases(split: str, path: str | None) -> list[Example]:
    """Return the sentences and phrases of GLUE."""
    return _read(split, path, PHRASES)


def example(sentence: str, label: str) -> Example:
    """Return a sentence and its label, "0" or "1", as a question."""
    choices = tuple(LABELS.values())
    return Example(f"Review: {sentence}\nSentiment:", LABELS[label], choices, {"sentence": sentence})


def _read(split: str, path: str | None, source: str) -> list[Example]:
    def make(row: files.Row) -> Example:
        label = str(row["label"]).strip()
        if label not in LABELS:
            raise Bad(f'"label" is {label[:40]!r}, not 0 or 1')
        return example(files.text(row, "sentence"), label)

    file = files.find(split, path, NAMES, source)
    return files.examples(file, make, COLUMNS)
