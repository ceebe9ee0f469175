"""Sets of questions for tasks: each file pinned where it is published, and kept as it is there.

The names in a folder are those that `data/tasks` looks for. SAMSum is not among them: its licence forbids to pass it on
changed, and what is published is an archive.
"""

from pathlib import Path
from typing import Any, NamedTuple

from juliagpt_jax.books.datasets import pinned
from juliagpt_jax.books.orders import Order
from juliagpt_jax.books.sources import Work, digest
from juliagpt_jax.books.writer import MANIFEST
from juliagpt_jax.ground import files
from juliagpt_jax.ground.sealed import write_json


class Questions(NamedTuple):
    """A set of questions.

    Attributes:
        licence: as it is stated where the set comes from.
        works: its files, by their names in a user's folder.
    """

    licence: str
    works: dict[str, Work]


def _set(
    licence: str, repo: str, commit: str, folder: str, *published: tuple[str, str, int], prefix: str = ""
) -> Questions:
    """Return the files (name, SHA-256, bytes) of a folder of a repository; there their names have no prefix."""
    works = {
        name: pinned(
            f"{repo.partition('/')[2]}_{name}", repo, commit, f"{folder}/{name.removeprefix(prefix)}", sha256, size
        )
        for name, sha256, size in published
    }
    return Questions(licence, works)


SETS = {
    "sst2": _set(
        "none stated",
        "clairett/pytorch-sentiment-classification",
        "457ffd83de90a9d6d472d8ffc31bbffe40a8b236",
        "data/SST2",
        ("train.tsv", "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920", 720_259),
        ("dev.tsv", "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359", 92_057),
        ("test.tsv", "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7", 188_749),
    ),
    "gsm8k": _set(
        "MIT",
        "openai/grade-school-math",
        "3101c7d5072418e28b9008a6636bde82a006892c",
        "grade_school_math/data",
        ("train.jsonl", "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465", 4_166_206),
        ("test.jsonl", "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14", 749_738),
    ),
    "mawps": _set(
        "none stated",
        "arkilpatel/SVAMP",
        "689d7ccac74b9983a2ac7cc3b264f441b99e7c53",
        "data/cv_mawps/fold0",
        ("fold0_train.csv", "0674253e6099813cefbb1d6eae3d2dc784ab6ebfdaf8755f6ebb4b99fc1f6ebe", 595_844),
        ("fold0_dev.csv", "bad59cff796b01a87363ea970f1fa80c15f56ff5f4388143aadbdc3feaf5f990", 148_020),
        prefix="fold0_",
    ),
    "svamp": _set(
        "MIT; of the part to train on CC BY-NC 4.0 and none stated",
        "arkilpatel/SVAMP",
        "689d7ccac74b9983a2ac7cc3b264f441b99e7c53",
        "data/mawps-asdiv-a_svamp",
        (
            "mawps-asdiv-a_svamp_train.csv",
            "c761cdc6390a67a285c6c346a2931f61bc8f47430eceaeb123cc3d0263efa821",
            1_242_909,
        ),
        ("mawps-asdiv-a_svamp_dev.csv", "978425fa0820a147a20d3cb305a571d77b8ba0d1ccec4a96dd1470bf0079c338", 467_974),
        prefix="mawps-asdiv-a_svamp_",
    ),
    "dialogsum": _set(
        "CC BY-NC-SA 4.0",
        "cylnlp/dialogsum",
        "848cc8c05e0a04def79326539de827f1b28786a0",
        "DialogSum_Data",
        ("dialogsum.train.jsonl", "660238631152c062e67186da6622c1e8925579e82563d66d611abb9dcc19bb72", 12_068_822),
        ("dialogsum.dev.jsonl", "436721e0a3571eef7072964f80e042fb151d8c6178db1a688ce8f803bbf0a13f", 471_830),
        ("dialogsum.test.jsonl", "6de36eca7e7b9b10975fd5ea3f47391df172d8b3c15d03d84d763cbaab015fda", 639_707),
    ),
    "mts_dialog": _set(
        "CC BY 4.0",
        "abachaa/MTS-Dialog",
        "3ff0801933608d6f570468c13125125fb5cabdea",
        "Main-Dataset",
        ("MTS-Dialog-TrainingSet.csv", "65a28681dd59fc159681ea026e44610f2af7bc64a0e7f892d763eb03d9f503dc", 1_041_071),
        ("MTS-Dialog-ValidationSet.csv", "227206520c4534381c0d7fba6d3f09319a9af5a6d9603a93c0341af1198e3958", 74_054),
        (
            "MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv",
            "b4d38dd2c99b2e9860099abcf653f1e0f3e9b69f9fcc45be2a2699b37a4d2f37",
            162_806,
        ),
    ),
}


def fetch(word: str, order: Order) -> dict[str, Any]:
    """Put the files of a set into the order's folder, all or none, and return their manifest. A folder that has them
    already stays as it is.

    Raises:
        UserError: something else is at the folder.
        StorageError: as `download.fetch`.
    """
    known = SETS[word]
    manifest = {"source": word, "licence": known.licence, "files": {name: _told(w) for name, w in known.works.items()}}
    if not _there(order.out, known):
        with files.new_folder(order.out, "--out") as new:
            for name, work in order.shown("download", len(known.works), known.works.items()):
                (new / name).write_bytes(order.fetch(work).read_bytes())
            write_json(new / MANIFEST, manifest)
    return manifest


def told(manifest: dict[str, Any], out: Path) -> list[str]:
    """Return what the terminal says."""
    word, names = manifest["source"], ", ".join(manifest["files"])
    return [
        f"{out}: {names}, as published (SHA-256 compared); licence: {manifest['licence']}",
        f"ask a model: python -m juliagpt_jax.evaluate --workdir=RUN --task={word} --task_data={out}",
    ]


def _told(work: Work) -> dict[str, str]:
    return {"sha256": work.source_sha256, "from": f"{work.repo} @ {work.commit}: {work.source_path}"}


def _there(out: Path, known: Questions) -> bool:
    return all((out / name).is_file() and digest(out / name) == w.source_sha256 for name, w in known.works.items())
