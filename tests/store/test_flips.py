"""Single flipped bits in files that the project writes: a load refuses them; and two exports are the same bytes."""

import hashlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.build import build_model
from juliagpt_jax.store import export, offered
from juliagpt_jax.store.tensors import read, save
from juliagpt_jax.store.workdir import open_run
from juliagpt_jax.training import start


def flipped(path, seed, count=12):
    """Yield `count` times with one bit of a file flipped; the file is whole again afterwards."""
    raw, rng = path.read_bytes(), np.random.default_rng(seed)
    for _ in range(count):
        at = int(rng.integers(len(raw)))
        path.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << int(rng.integers(8)))]) + raw[at + 1 :])
        yield at
    path.write_bytes(raw)


@pytest.fixture(scope="module")
def exported(clean, tmp_path_factory):
    """A folder with exports of a trained model."""
    folder, run = tmp_path_factory.mktemp("flips"), open_run(clean)
    export.pack(run, "int8", folder / "int8.safetensors", "", "f16")
    export.export(run, "safetensors", folder / "plain.safetensors", "f32", {})
    export.export(run, "hf", folder / "hf", "f32", {})
    export.export(run, "gguf", folder / "model.gguf", "f32", {})
    return folder


@pytest.mark.parametrize(
    "name", ["int8.safetensors", "plain.safetensors", "hf/model.safetensors", "hf/config.json", "model.gguf"]
)
def test_a_flipped_bit_of_an_export_is_refused(exported, name, tmp_path):
    shutil.copytree(exported, tmp_path / "e")
    source = tmp_path / "e" / name.split("/")[0]
    load = open_run if name.startswith("int8") else export.read
    load(source)
    for at in flipped(tmp_path / "e" / name, 1):
        with pytest.raises(UserError) as error:
            load(source)
            pytest.fail(f"byte {at} loaded without a word")
        assert "\n" not in str(error.value)
    load(source)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_flipped_bit_of_a_workdir_is_refused(clean, name, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(clean, workdir, symlinks=True)
    for at in flipped(workdir / name, 2):
        with pytest.raises(UserError):
            open_run(workdir)
            pytest.fail(f"byte {at} loaded without a word")
    open_run(workdir)


def test_the_hash_covers_names_dtypes_shapes_bytes_and_metadata(tmp_path):
    arrays = {"a": np.arange(4, dtype=np.float32), "b": np.ones((2, 2), np.float32)}
    hashes = set()
    for n, (changed, about) in enumerate(
        [
            (arrays, {"x": "1"}),
            (arrays, {"x": "2"}),
            ({"a": arrays["a"], "c": arrays["b"]}, {"x": "1"}),
            (arrays | {"a": arrays["a"].view(np.int32)}, {"x": "1"}),
            (arrays | {"b": arrays["b"].reshape(4)}, {"x": "1"}),
            (arrays | {"a": arrays["a"] + 1}, {"x": "1"}),
        ]
    ):
        save(tmp_path / f"{n}", changed, about)
        text = (tmp_path / f"{n}").read_bytes()
        hashes.add(text[text.index(b'"sha256":"') + 10 :][:64])
    assert len(hashes) == 6
    assert read(tmp_path / "0")[1] == {"x": "1"}, "the hash is no metadata of the caller's"


EXPORT = """
import sys
from pathlib import Path
from juliagpt_jax.store import export
from juliagpt_jax.store.workdir import open_run
run, ternary, out = open_run(Path(sys.argv[1])), open_run(Path(sys.argv[2])), Path(sys.argv[3])
out.mkdir()
export.pack(run, "int8", out / "int8.safetensors", "", "f16")
for packing in ("2bit", "base3"):
    export.pack(ternary, "ternary", out / f"{packing}.safetensors", packing, "f16")
for kind, name in [("safetensors", "plain.safetensors"), ("hf", "hf"), ("gguf", "model.gguf")]:
    export.export(run, kind, out / name, "f32", {})
"""


def random_workdir(folder, settings):
    """A workdir with random weights."""
    tokenizer = CharTokenizer.train("abc\n")
    model, rng = build_model(settings, tokenizer.vocab_size), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), np.zeros((1, 2), int))["params"])
    params = {path: rng.normal(0, 0.1, leaf.shape) for path, leaf in flatten_dict(shapes, sep="/").items()}
    start.begin(folder, settings, {p: a.astype(np.float32) for p, a in params.items()}, tokenizer, {}, "random weights")
    return folder


@pytest.mark.long
def test_two_exports_of_the_same_weights_are_the_same_bytes(clean, tiny, tmp_path):
    pytest.importorskip("gguf")
    sums, ternary = [], random_workdir(tmp_path / "ternary", tiny("model.linear=ternary"))
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", EXPORT, clean, ternary, tmp_path / name], check=True, timeout=300)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        hashed = {str(p.relative_to(tmp_path / name)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
        sums.append(hashed)
    assert sums[0] == sums[1] and len(sums[0]) >= 10


def test_offered_hashes_are_held(exported, tmp_path):
    folder = tmp_path / "hf"
    shutil.copytree(exported / "hf", folder)
    weights = folder / "model.safetensors"
    sound = offered.check([weights])[weights.name]
    (folder / "SHA256SUMS").write_text(f"{'0' * 64} *./model.safetensors\n")
    with pytest.raises(UserError, match=r"model\.safetensors: changed: its hash is .*, and SHA256SUMS has 0000"):
        export.read(folder)
    (folder / "SHA256SUMS").write_text("no hash  model.safetensors\n")
    with pytest.raises(UserError, match="SHA256SUMS:1: not a line of sha256sum"):
        export.read(folder)
    (folder / "SHA256SUMS").unlink()
    note = folder / ".cache" / "huggingface" / "download" / "model.safetensors.metadata"
    note.parent.mkdir(parents=True)
    for etag, fits in [(sound, True), ("1" * 64, False), ("2" * 40, False)]:
        note.write_text(f"commit\n{etag}\n1.0\n")
        if fits:
            assert export.read(folder).hashes["model.safetensors"] == sound
        else:
            with pytest.raises(UserError, match=r"download/model\.safetensors\.metadata has"):
                export.read(folder)
    shutil.rmtree(folder / ".cache")
    blob = tmp_path / "blobs" / ("3" * 64)
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    with pytest.raises(UserError, match="the name of its blob has 3333"):
        export.read(folder)
    weights.unlink()
    weights.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{sound}\nsize 5\n")
    with pytest.raises(UserError, match="a pointer of git-LFS; `git lfs pull` gets the file of SHA-256"):
        export.read(folder)
