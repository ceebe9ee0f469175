"""Dialogues and their summaries: SAMSum (Gliwa et al. 2019), DialogSum (Chen et al. 2021), MTS-Dialog (Ben Abacha et
al. 2023)."""

from juliagpt_jax.data.tasks import files
from juliagpt_jax.data.tasks.task import Example

SAMSUM = "https://huggingface.co/datasets/Samsung/samsum; it may not be changed, nor used commercially"
DIALOGSUM = "https://github.com/cylnlp/dialogsum; " + files.PREPARE.format("dialogsum")
MTS_DIALOG = "https://github.com/abachaa/MTS-Dialog; " + files.PREPARE.format("mts_dialog")


def samsum(split: str, path: str | None) -> list[Example]:
    """Return messages between friends. The one empty dialogue of the training part is left out."""
    names = {"train": ["train.json", "train.jsonl"], "test": ["test.json", "test.jsonl"]}
    names["dev"] = ["val.json", "dev.json", "val.jsonl", "dev.jsonl"]

    def make(row: files.Row) -> Example | None:
        dialogue = files.text(row, "dialogue", empty=True)
        return _example(dialogue, [files.text(row, "summary")], str(row.get("id", ""))) if dialogue else None

    return files.examples(files.find(split, path, names, SAMSUM), make)


def dialogsum(split: str, path: str | None) -> list[Example]:
    """Return everyday talks; each of the test part has three summaries."""
    names = {part: [f"dialogsum.{part}.jsonl", f"{part}.jsonl"] for part in ("train", "dev", "test")}

    def make(row: files.Row) -> Example:
        fields = ["summary"] if "summary" in row else [f"summary{i}" for i in (1, 2, 3)]
        summaries = [files.text(row, field) for field in fields]
        return _example(files.text(row, "dialogue"), summaries, str(row.get("fname", "")))

    return files.examples(files.find(split, path, names, DIALOGSUM), make)


def mts_dialog(split: str, path: str | None) -> list[Example]:
    """Return talks between doctor and patient, each with a section of the note that the doctor writes."""
    names = {
        "train": ["MTS-Dialog-TrainingSet.csv"],
        "dev": ["MTS-Dialog-ValidationSet.csv"],
        "test": ["MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv"],
    }

    def make(row: files.Row) -> Example:
        section = files.text(row, "section_header")
        own = _example(files.text(row, "dialogue"), [files.text(row, "section_text")], str(row.get("ID", "")))
        return own._replace(facts={**own.facts, "section": section})

    return files.examples(files.find(split, path, names, MTS_DIALOG), make)


def _example(dialogue: str, summaries: list[str], name: str) -> Example:
    summaries = [" ".join(summary.split()) for summary in summaries]
    facts = {"id": name, "dialogue": dialogue, "references": tuple(summaries)}
    return Example(f"{dialogue}\n\nSummary:", f" {summaries[0]}", facts=facts)
