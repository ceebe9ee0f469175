"""Freeze a folder of texts or shards, hold a copy to what was frozen, or write it as a dataset of Hugging Face.

python -m juliagpt_jax.snapshot --freeze=data/web_shards --licence="CC BY 4.0"
python -m juliagpt_jax.snapshot --verify=data/web_shards [--sha256=HASH]
python -m juliagpt_jax.snapshot --export=data/web_shards --out=web_dataset
"""

import argparse

from juliagpt_jax.ground import command, texts
from juliagpt_jax.ground.errors import UserError


def parser() -> command.Parser:
    flags = command.Parser("snapshot", "A folder in; manifest.jsonl, a word on whether it is sound, or a dataset, out.")
    add = flags.add_argument
    add("--freeze", metavar="DIR", help="write DIR/manifest.jsonl: files, hashes, counts, filters, licences")
    add("--verify", metavar="DIR", help="hold every file of DIR to its manifest.jsonl")
    add("--export", metavar="DIR", help="write the texts of a snapshot as a dataset folder of Hugging Face, to --out")
    add("--out", metavar="DIR", help="for --export; it must not exist yet")
    add("--licence", default="", metavar="TEXT", help="for --freeze: of the texts, where the folder does not say")
    add("--filters", default="", metavar="TEXT", help="for --freeze: what was left out, where the folder does not say")
    add("--sha256", default="", metavar="HASH", help="for --verify: of the manifest.jsonl, as --freeze prints it")
    add("--json", action="store_true", help="print what is known of the snapshot as one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    asked = [name for name in ("freeze", "verify", "export") if getattr(options, name)]
    if len(asked) != 1:
        raise UserError("give one of --freeze=DIR, --verify=DIR and --export=DIR")
    for name, own in (("out", "export"), ("licence", "freeze"), ("filters", "freeze"), ("sha256", "verify")):
        if getattr(options, name) and own not in asked:
            raise UserError(f"--{name} goes with --{own}")

    from juliagpt_jax.data import snapshots
    from juliagpt_jax.ground.files import new_folder

    folder = texts.path(getattr(options, asked[0]))
    if options.freeze:
        found = snapshots.freeze(folder, options.licence, options.filters)
    elif options.verify:
        found, digest = snapshots.verify(folder, "--verify")
        found |= {"sha256": digest}
        if options.sha256 and options.sha256 != digest:
            raise UserError(f"--sha256: {folder} is sound, and the snapshot {digest}, another one")
    else:
        if not options.out:
            raise UserError("--export needs --out=DIR")
        with new_folder(texts.path(options.out), "--out") as out:
            found = snapshots.export(folder, out)
    what = f"{found['files']:,} files, {found['bytes']:,} bytes, {found['documents']:,} documents"
    print(f"{folder}: {'frozen' if options.freeze else 'sound'}: {what}; {', '.join(found['licences'])}")
    print(f"train on it alone: --config.data.path={folder} --config.data.snapshot={found['sha256']}")
    if options.export:
        print(f'{options.out}: datasets.load_dataset("{options.out}") opens it: {found["rows"]}')
    if options.json:
        command.print_json(found)


if __name__ == "__main__":
    command.run(parser(), main)
