"""Collections of documents that are known: where each file is pinned, how it is cut, and under which licence it stands.

A file counts as published when it has the SHA-256 given here, whether it came over the network or lay in a folder.
"""

import dataclasses
import gzip
import hashlib
from pathlib import Path

from juliagpt_jax.books.archives import DAMAGE, Budget, damaged
from juliagpt_jax.books.cuts import articles
from juliagpt_jax.books.sources import Work, digest
from juliagpt_jax.ground import texts
from juliagpt_jax.ground.errors import UserError

SIDES = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A collection and its place.

    Attributes:
        name: the word for --source.
        unit: a name of `cuts.CUTS`.
        licence: of the texts.
        works: what `download.fetch` needs, by the side of the split that the file is; "" where nobody split it.
        as_is: it is a yardstick that others measure on: its text is kept to the byte, whatever the rules.
    """

    name: str
    unit: str
    licence: str
    works: dict[str, Work]
    as_is: bool = False


def pinned(name: str, repo: str, commit: str, path: str, sha256: str, size: int) -> Work:
    """Return a file of a GitHub repository at one commit."""
    place = {"repo": f"github.com/{repo}", "commit": commit, "source_path": path}
    return Work(name, Path(), **place, source_sha256=sha256, source_bytes=size)


def _wikitext(side: str, file: str, commit: str, sha256: str, size: int) -> Work:
    path = f"word_language_model/data/wikitext-2/{file}"
    return pinned(f"wikitext2_{side}", "pytorch/examples", commit, path, sha256, size)


DATASETS = {
    "wikitext2": DataSet(
        "wikitext2",
        "article",
        "CC BY-SA 3.0 (Wikipedia's text; WikiText-2, Merity et al. 2016, arXiv 1609.07843)",
        {
            "train": _wikitext(
                "train", "train.txt", "37ce9402ff0cae48d764d7788810fd2ed8238b25",
                "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f", 10_797_148,
            ),
            "val": _wikitext(
                "val", "valid.txt", "37ce9402ff0cae48d764d7788810fd2ed8238b25",
                "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8", 1_121_681,
            ),
            "test": _wikitext(
                "test", "test.txt", "cada773327ba94a5970e0d57c17c847d69dbbb8f",
                "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0", 1_256_449,
            ),
        },
        as_is=True,
    ),
    "tinystories": DataSet(
        "tinystories",
        "story",
        "CDLA-Sharing-1.0 (TinyStories, Eldan and Li 2023, arXiv 2305.07759: the beginning of TinyStoriesV2-GPT4)",
        {
            "": pinned(
                "tinystories_v2_head", "mines-opt-ml/decoding-gpt", "b7753c9b80f5b19105f2f4833c135adebf62276b",
                "data/tinystories_10k.txt", "5a19b936d7b53bbdac1eea03230b00161dceca24ae272f5bd8e9dbbc2a883418",
                1_424_708,
            )
        },
    ),
}  # fmt: skip

# Names that the three files of a WikiText go by, {} being train, valid or test; each may be packed as .gz.
_WIKITEXTS = ("{}.txt", "wiki.{}.tokens", "wiki.{}.raw")


def chosen(source: str, unit: str | None, budget: Budget) -> tuple[DataSet | None, dict[str, Path], str]:
    """Return the collection that is called so, or lies there; its files, as `recognised`; and by which unit it is cut.

    Raises:
        UserError: another unit is wanted of it.
    """
    known, files = DATASETS.get(source), {}
    if not known and source != "classics" and unit in (None, "article", "story"):
        known, files = recognised(texts.path(source), budget) or (None, {})
    own = known.unit if known else "chunk" if source == "classics" else unit or "chunk"
    if unit and unit != own:
        raise UserError(f"--unit={unit}: {source} is cut by {own}; leave --unit out")
    return known, files, own


def recognised(path: Path, budget: Budget) -> tuple[DataSet, dict[str, Path]] | None:
    """Return the collection that lies at a path, and its files by their side; None where none does.

    A file is one of a collection by its hash. A folder is a WikiText where its files are called like that
    (`_WIKITEXTS`) and the training file has at least two title lines: also one that is not pinned here, such as
    WikiText-103, whose licence is the same.
    """
    if path.is_file():
        return next(
            (
                (known, {"": path})
                for known in DATASETS.values()
                if list(known.works) == [""]
                and path.stat().st_size == known.works[""].source_bytes
                and digest(path) == known.works[""].source_sha256
            ),
            None,
        )
    for pattern in _WIKITEXTS:
        files: dict[str, Path] = {}
        for side, name in zip(SIDES, ("train", "valid", "test"), strict=True):
            plain = path / pattern.format(name)
            file = next((f for f in (plain, plain.with_name(f"{plain.name}.gz")) if f.is_file()), None)
            if file:
                files[side] = file
        if len(files) == len(SIDES) and len(articles(content(files["train"], budget).decode("utf-8", "replace"))) > 1:
            known = DATASETS["wikitext2"]
            pinned = all(_same(file, known.works[side], budget) for side, file in files.items())
            return (known if pinned else dataclasses.replace(known, name="", works={})), files
    return None


def _same(file: Path, work: Work, budget: Budget) -> bool:
    return hashlib.sha256(content(file, budget)).hexdigest() == work.source_sha256


def content(file: Path, budget: Budget) -> bytes:
    """Return the bytes of a file as it was published, unpacked where its name ends in .gz.

    Raises:
        UserError: it cannot be read, is damaged, or is larger than the budget.
    """
    own = dataclasses.replace(budget)  # a file that is read twice counts once
    try:
        with open(file, "rb") as stream:
            return own.read(gzip.GzipFile(fileobj=stream) if file.suffix == ".gz" else stream, str(file))
    except DAMAGE as error:
        raise UserError(damaged(str(file), error)) from error
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from error
