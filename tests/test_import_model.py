"""The way out and in, by the commands: a model comes back as a workdir that writes, is measured and trains on."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from juliagpt_jax import export, import_model
from juliagpt_jax.ground import config_file
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.store.claim import settle_config
from juliagpt_jax.store.workdir import Run, open_run
from juliagpt_jax.training import metrics

TRAINING = ["--config=configs/tiny.py", "--config.train.steps=6", "--config.train.warmup=2"]


def call(module, *arguments, overrides=False):
    module.main(module.parser().parse([str(a) for a in arguments], overrides))


def leaves(run: Run) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in flatten_dict(run.params, sep="/").items()}


@pytest.fixture(scope="module", params=["hf", "safetensors"])
def again(request, clean, micro, tmp_path_factory):
    """A workdir made of what `export` wrote; to be read only."""
    folder = tmp_path_factory.mktemp(request.param)
    call(export, f"--workdir={clean}", f"--format={request.param}", f"--out={folder / 'out'}")
    flags = [flag for flag in micro.flags if not flag.startswith("--config.model.")]
    call(
        import_model,
        f"--source={folder / 'out'}",
        f"--workdir={folder / 'again'}",
        *TRAINING,
        *flags[:1],
        overrides=True,
    )
    return folder / "again"


def test_the_same_model(again, clean):
    before, after = open_run(clean), open_run(again)
    assert after.step == 0 and after.tokenizer.to_dict() == before.tokenizer.to_dict()
    assert leaves(before).keys() == leaves(after).keys()
    for path, leaf in leaves(before).items():
        np.testing.assert_array_equal(leaves(after)[path], leaf)
    assert after.config.model == before.config.model and after.config.train.steps == 6
    facts = json.loads((again / "run.json").read_text())
    assert facts["imported"].endswith("out")
    assert facts["tokenizer_sha256"] == json.loads((clean / "run.json").read_text())["tokenizer_sha256"]
    out = again.parent / "out"
    names = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    files = [out] if out.is_file() else [out / name for name in names]
    assert facts["imported_sha256"] == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_hash_that_the_user_gives_is_held(again, micro, tmp_path):
    out = again.parent / "out"
    weights = out if out.is_file() else out / "model.safetensors"
    flags = [f"--source={out}", f"--workdir={tmp_path / 'new'}", *micro.flags[:1], *TRAINING]
    with pytest.raises(UserError, match=r"--sha256=00: the hash of .* is [0-9a-f]{64}$"):
        call(import_model, *flags, "--sha256=00", overrides=True)
    assert not (tmp_path / "new").exists()
    sound = hashlib.sha256(weights.read_bytes()).hexdigest()
    call(import_model, *flags, f"--sha256={sound.upper()}", overrides=True)


@pytest.mark.long
@pytest.mark.parametrize("again", ["hf"], indirect=True)
def test_it_trains_on(again, clean, micro, tmp_path):
    """From the loss where the model was, with knobs that may still be chosen; then the run is a run like any other."""
    shutil.copytree(again, tmp_path / "run", symlinks=True)
    flags = [f"--config={tmp_path / 'run' / 'config.json'}", f"--workdir={tmp_path / 'run'}", "--config.train.lr=1e-3"]
    flags += ["--config.train.log_every=1", "--config.train.sample_every=0", "--config.train.checkpoint_every=3"]
    done = micro.run("main", *flags)
    assert done.returncode == 0, done.err
    rows = [row for row in metrics.read(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    trained = [row["loss"] for row in metrics.read(clean / "metrics.jsonl") if "loss" in row]
    assert rows[0]["lr"] == pytest.approx(5e-4) and len(rows) == 6
    assert rows[0]["loss"] < np.mean(trained[:5]) - 0.3, "it begins where the other ended, not where it began"
    other = config_file.load(str(tmp_path / "run" / "config.json"), ["train.lr=2e-3"])
    with pytest.raises(UserError, match=r"train.lr: 0.001 -> 0.002"):
        settle_config(tmp_path / "run", other)


@pytest.mark.parametrize("again", ["hf"], indirect=True)
def test_the_model_itself_is_settled(again, tmp_path):
    shutil.copytree(again, tmp_path / "run", symlinks=True)
    before = (tmp_path / "run" / "config.json").read_bytes()
    for override in ("model.rope_base=99", "model.layers=2"):
        other = config_file.load(str(tmp_path / "run" / "config.json"), [override, "train.lr=2e-3"])
        with pytest.raises(UserError, match=override.split("=")[0]) as error:
            settle_config(tmp_path / "run", other)
        assert "train.lr" not in str(error.value)
        assert (tmp_path / "run" / "config.json").read_bytes() == before
    settle_config(tmp_path / "run", config_file.load(str(tmp_path / "run" / "config.json"), ["model.dropout=0.1"]))


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--source=nowhere"], "--source=nowhere does not exist"),
        (["--source=README.md"], "README.md: not a safetensors file"),
        (["--source=configs"], "config.json does not exist"),
        (["--source=tests/golden/llama_mha_tied"], "tokenizer.json does not exist"),
        (["--source=configs", "--config.model.width=8"], "--config.model.width=8: the model is the source's"),
        (["--source=configs", "--config.train.stepz=8"], "did you mean steps"),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else "",
)
def test_mistakes(arguments, says, tmp_path):
    with pytest.raises(UserError) as error:
        call(import_model, *arguments, f"--workdir={tmp_path / 'run'}", *TRAINING, overrides=True)
    assert says in str(error.value) and list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_leave_nothing(clean, tmp_path):
    call(export, f"--workdir={clean}", "--format=hf", f"--out={tmp_path / 'out'}")
    facts = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps(facts | {"intermediate_size": 48}))
    (tmp_path / "out" / "SHA256SUMS").unlink()
    with pytest.raises(
        UserError, match=r"do not fit the config: block_0/channel/down/kernel: \(64, 16\), .*\(48, 16\)"
    ):
        call(import_model, f"--source={tmp_path / 'out'}", f"--workdir={tmp_path / 'run'}", *TRAINING, overrides=True)
    assert {p.name for p in tmp_path.iterdir()} == {"out"}


def test_in_processes_of_their_own(clean, micro, says, tmp_path):
    """One line and exit 2; and a folder that stands."""
    out = tmp_path / "out"
    done = micro.run("export", f"--workdir={clean}", "--format=hf", f"--out={out}", "--precision=bf16")
    assert done.returncode == 0 and "step 40" in done.out and "bf16" in done.out
    with open(out / "model.safetensors", "r+b") as file:
        file.truncate(1000)
    done = micro.run("import_model", f"--source={out}", f"--workdir={tmp_path / 'run'}", *TRAINING)
    assert done.returncode == 2
    says(done, "model.safetensors: changed: its hash is")
