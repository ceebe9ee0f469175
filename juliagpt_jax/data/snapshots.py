"""A folder of texts or shards, frozen: manifest.jsonl names every file with its size, its hash and what is in it.

The first line is of the whole: format, files, bytes, licences, filters. Each other line is of one file. The SHA-256 of
manifest.jsonl names the snapshot: a run that is given it trains on these bytes or not at all.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from juliagpt_jax.data import reading, shards, stream
from juliagpt_jax.ground import formats, sealed, texts
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.files import replacing, sha256

FORMAT = 1
FILE = texts.SNAPSHOT
HASH = "file_sha256"  # of a file; "sha256" is that of the line
OF_ALL = dict.fromkeys(("files", "bytes", "documents", "tokens", "characters"), int) | {
    "licences": list,
    "filters": str,
}
OF_FILE = {"file": str, "bytes": int, HASH: str, "licence": str}


def freeze(folder: Path, licence: str = "", filters: str = "") -> dict[str, Any]:
    """Write a folder's manifest.jsonl; return its first line with the snapshot's `sha256`. The same files give the same
    bytes.

    Args:
        licence, filters: of the texts, where the folder does not say.

    Raises:
        UserError: it is no folder, holds nothing, or a snapshot of other files already.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder")
    index = shards.open_index(folder, "--freeze") if shards.is_shards(folder) else None
    prepared = reading.read_manifest(folder, "--freeze") if (folder / reading.MANIFEST).is_file() else {}
    source = index.source if index else prepared
    licence = licence or str(source.get("licence", "not stated"))
    rows = [_row(folder, file, index, licence) for file in _files(folder)]
    if not rows:
        raise UserError(f"{folder}: there is nothing in it")
    whole = {
        "snapshot": FORMAT,
        "files": len(rows),
        "bytes": sum(row["bytes"] for row in rows),
        "documents": sum(row.get("documents", 0) for row in rows),
        "tokens": sum(row.get("tokens", 0) for row in rows),
        "characters": sum(row.get("characters", 0) for row in rows),
        "licences": sorted({row["licence"] for row in rows}),
        "filters": filters or json.dumps(source.get("options", "not stated"), sort_keys=True),
    }
    text = "".join(json.dumps(sealed.seal(row), sort_keys=True) + "\n" for row in (whole, *rows))
    path = folder / FILE
    if path.exists() and path.read_bytes() != text.encode():
        raise UserError(f"{path}: a snapshot of other files, or of other words; take it away to freeze what is there")
    if not path.exists():
        with replacing(path) as new:
            new.write_text(text, encoding="utf-8", newline="\n")
    return whole | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def _files(folder: Path) -> Iterator[Path]:
    found, _ = texts.listed(folder, [""], deep=True)
    for file in found:
        if file.is_symlink():
            raise UserError(f"{file}: a link; a snapshot holds files alone")
        if file != folder / FILE:
            yield file


def _row(folder: Path, file: Path, index: shards.Index | None, licence: str) -> dict[str, Any]:
    """Say of a file what a manifest says of it; the text of rows and lines is counted, that of shards known."""
    name = file.relative_to(folder).as_posix()
    row: dict[str, Any] = {"file": name, "bytes": file.stat().st_size, HASH: sha256(file), "licence": licence}
    if index is not None:
        for side in shards.SIDES:
            for shard in index.sides[side]:
                if name == f"{shard.name}.bin":
                    if row[HASH] != shard.sha256:
                        raise StorageError(f"{file}: damaged: its SHA-256 is not the one in {shards.INDEX}")
                    counted = {"documents": shard.documents, "tokens": shard.tokens}
                    row |= counted | {"characters": shard.counts.characters, "side": side}
    elif name.lower().endswith((*formats.FORMATS,)):
        sizes = [len(text) for text in formats.documents(file)]
        row |= {"documents": len(sizes), "characters": sum(sizes)}
    elif name.lower().endswith(".txt"):
        row |= {"characters": sum(map(len, texts.blocks(file, "replace")))}
    return row


def read(folder: Path, flag: str) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """Return the first line of a snapshot, its other lines, and its SHA-256.

    Raises:
        UserError: there is none, or it was changed.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{flag}: {folder} has no {FILE}; python -m juliagpt_jax.snapshot --freeze={folder} makes one")
    try:
        whole, *rows = sealed.read_rows(path)
        if whole["snapshot"] != FORMAT or len(rows) != whole["files"]:
            raise ValueError("its first line does not fit the others")
        for row, known in [(whole, OF_ALL), *((row, OF_FILE) for row in rows)]:
            wrong = [name for name, kind in known.items() if type(row[name]) is not kind]
            if wrong:
                raise ValueError(f"{wrong[0]!r} is {row[wrong[0]]!r}"[:200])
        if not all(isinstance(licence, str) for licence in whole["licences"]):
            raise ValueError("its licences are no texts")
        for row in rows:
            if Path(row["file"]).is_absolute() or ".." in Path(row["file"]).parts:
                raise ValueError(f"{row['file']} lies outside")
    except KeyError as error:
        raise UserError(f"{flag}: {path}: not a snapshot: a line has no {error}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{flag}: {path}: not a snapshot: {error}") from error
    except StorageError as error:
        raise UserError(f"{flag}: {error}") from error
    return whole, rows, sha256(path)


def verify(folder: Path, flag: str, quick: bool = False) -> tuple[dict[str, Any], str]:
    """Hold every file of a folder to its snapshot; return the first line and the SHA-256.

    Args:
        quick: of the token files of shards look at the sizes alone: each of their blocks is held to its checksum when
            it is read, and the files of checksums are held to their hashes here.

    Raises:
        UserError: a file is missing, has other bytes, or is new; all are named.
    """
    whole, rows, digest = read(folder, flag)
    light = quick and shards.is_shards(folder)
    faults = []
    for row in rows:
        file = folder / row["file"]
        if not file.is_file():
            faults.append(f"{row['file']} is missing")
        elif file.stat().st_size != row["bytes"] or (
            not (light and file.suffix == ".bin") and sha256(file) != row[HASH]
        ):
            faults.append(f"{row['file']} has other bytes")
    named = {row["file"] for row in rows}
    faults += [f"{name} is new" for f in _files(folder) if (name := f.relative_to(folder).as_posix()) not in named]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise UserError(f"{flag}: {folder} is not what was frozen: {', '.join(faults[:5])}{more}")
    return whole, digest


def hold(folder: Path, wanted: str, flag: str = "config.data.snapshot") -> None:
    """Refuse a folder that is not the snapshot with this SHA-256.

    Raises:
        UserError: it is another one, or no longer what was frozen.
    """
    if not folder.is_dir():
        raise UserError(f"{flag}: {folder} is no folder; a snapshot is one")
    _, digest = verify(folder, flag, quick=True)
    if digest != wanted:
        raise UserError(f"{flag}: {folder} is the snapshot {digest[:12]}..., not {wanted[:12]}...")


def export(folder: Path, out: Path) -> dict[str, Any]:
    """Write a snapshot as a dataset folder of Hugging Face into the empty folder `out`: rows with a "text" for each
    side, and the card; return the first line of the snapshot. Memory holds one document.

    Raises:
        UserError: the snapshot is not sound, or nothing in it is text.
    """
    whole, digest = verify(folder, "--export")
    (out / "data").mkdir(parents=True)
    sides: dict[str, int] = {}
    for side, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        count = 0
        path = out / "data" / f"{name}.jsonl"
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            for text in _texts(folder, side):
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                count += 1
        if count:
            sides[name] = count
        else:
            path.unlink()
    if not sides:
        raise UserError(f"--export: {folder} holds no text that could be written as rows")
    (out / "README.md").write_text(_card(whole, digest, sides), encoding="utf-8")
    return whole | {"sha256": digest, "rows": sides}


def _texts(folder: Path, side: str) -> Iterator[str]:
    """Yield the passages of a side; where a folder has none, all of it is training text."""
    if shards.is_shards(folder):
        if side in shards.SIDES:
            index = shards.open_index(folder, "--export")
            tokenizer = index.tokenizer()
            for shard in index.sides[side]:
                for ids in shards.passages(index, shard):
                    ended = index.documents and tokenizer.eos is not None
                    yield tokenizer.decode(ids[:-1] if ended else ids).removesuffix("\n")
        return
    named = [folder / f"{side}_enriched.jsonl", folder / f"{side}.txt"]
    found = [file for file in named if file.is_file()][:1]
    if not found and side == "train":
        found = [file for file in _files(folder) if file.name.lower().endswith((".txt", *formats.FORMATS))]
    for file in found:
        if file.name.lower().endswith(".txt"):
            lines = (line.removesuffix("\n") for line in stream.lines(texts.blocks(file, "replace")))
            yield from filter(None, lines)
        else:
            yield from formats.documents(file)


def _card(whole: dict[str, Any], digest: str, sides: dict[str, int]) -> str:
    files = "\n".join(f"  - split: {name}\n    path: data/{name}.jsonl" for name in sides)
    rows = "\n".join(f"- {name}: {count:,} rows" for name, count in sides.items())
    licences = "\n".join(f"- {licence}" for licence in whole["licences"])
    return f"""---
license: other
configs:
- config_name: default
  data_files:
{files}
---

# A snapshot of a training text

One column, `text`, a passage a row.

{rows}

Made of the snapshot with SHA-256 `{digest}`: {whole["files"]:,} files, {whole["bytes"]:,} bytes.
`python -m juliagpt_jax.snapshot --verify=FOLDER` holds a copy of it to that.

## Licences

{licences}

## Filters

{whole["filters"]}
"""
