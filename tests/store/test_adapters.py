"""Adapters on the disk: peft's files say here what they say there, ours come back, and on other weights they are
refused."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file, save_file

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.adapter import Adapter
from juliagpt_jax.models import adapters as folding
from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.store import adapters, hf, offered, peft
from juliagpt_jax.store.run import Run
from juliagpt_jax.store.workdir import read_adapters


def of_golden(golden, tiny, name):
    """The run of a golden folder's model, and the folder of adapters that peft made for it."""
    facts = json.loads((golden / name / "config.json").read_text())
    fields, params = hf.read_model(golden / name, facts)
    values = config.to_dict(tiny())
    values["model"] |= fields
    settings = config.build(values)
    tree = unflatten_dict({path: jnp.asarray(leaf) for path, leaf in params.items()}, sep="/")
    model = Decoder(settings.model, facts["vocab_size"])
    run = Run(settings, None, model, tree, 0, {"data": None}, golden / name / "checkpoints" / "0")
    return SimpleNamespace(run=run, folder=golden / "peft" / name, ids=np.load(golden / name / "io.npz")["input_ids"])


@pytest.fixture(scope="module", params=["llama_gqa_untied", "gpt2_tied"])
def given(request, golden, tiny):
    return of_golden(golden, tiny, request.param)


def test_what_peft_wrote_computes_here_what_it_computes_there(given, capsys):
    """With patterns of ranks and alphas, of one layer alone, of a fused matrix and by another scale."""
    laid = adapters.lay(given.run, read_adapters(given.folder, given.run))
    assert "does not say which weights" in capsys.readouterr().err
    apply, wanted = jax.jit(given.run.model.apply), np.load(given.folder / "logits.npz")["logits"]
    np.testing.assert_allclose(apply({"params": laid.params}, given.ids)[0], wanted, atol=3e-5)
    assert np.abs(apply({"params": given.run.params}, given.ids)[0] - wanted).max() > 0.05, "the adapters act"


def test_what_is_written_says_the_same(given, tmp_path):
    """For peft the same products under the same names; and here they are read back, to these weights alone."""
    read = peft.read(given.folder, given.run.config.model)
    hashed = folding.digest(given.run.params)
    knobs = Adapter(rank=2, alpha=2.0, dropout=0.0, targets="all", layers="all", base="nf4")
    settings = dataclasses.replace(given.run.config, adapter=knobs)
    adapters.write(tmp_path / "out", unflatten_dict(read.params, sep="/"), {"base": hashed}, settings, "f32")
    ours, theirs = (load_file(folder / peft.WEIGHTS) for folder in (tmp_path / "out", given.folder))
    assert ours.keys() == theirs.keys()
    said, rank = (json.loads((folder / peft.SETTINGS).read_text()) for folder in (tmp_path / "out", given.folder))
    assert (
        said["fan_in_fan_out"] == rank["fan_in_fan_out"] and said["layers_to_transform"] == rank["layers_to_transform"]
    )
    for name in (name for name in ours if "lora_A" in name):
        other = name.replace("lora_A", "lora_B")
        root = rank["r"] ** 0.5 if rank["use_rslora"] else 1  # theirs is divided by less
        scale = (5 / 3 if "down_proj" in name else 6 / 2) * root
        np.testing.assert_allclose(ours[other] @ ours[name], scale * (theirs[other] @ theirs[name]), atol=1e-5)
    back = read_adapters(tmp_path / "out", given.run)
    assert back.base == hashed and back.form == "nf4"
    for path in (path for path in read.params if path.endswith("/a")):
        b = f"{path[:-1]}b"
        np.testing.assert_allclose(back.params[path] @ back.params[b], read.params[path] @ read.params[b], atol=1e-5)
    moved = dataclasses.replace(given.run, params=jax.tree.map(lambda leaf: leaf + 1e-3, given.run.params))
    with pytest.raises(UserError, match="trained beside other weights than those of"):
        read_adapters(tmp_path / "out", moved)


@pytest.mark.parametrize("name", [peft.SETTINGS, peft.WEIGHTS])
def test_a_flipped_bit_is_refused(golden, tiny, tmp_path, name):
    """Of ours, and of any folder with SHA256SUMS; without it an alpha is what the file says."""
    given = of_golden(golden, tiny, "llama_gqa_untied")
    read, knobs = peft.read(given.folder, given.run.config.model), Adapter(2, 2.0, 0.0, "all", "all", "float")
    settings = dataclasses.replace(given.run.config, adapter=knobs)
    base, out = folding.digest(given.run.params), tmp_path / "out"
    adapters.write(out, unflatten_dict(read.params, sep="/"), {"base": base}, settings, "f32")
    read_adapters(out, given.run)
    raw, rng = (out / name).read_bytes(), np.random.default_rng(0)
    for _ in range(12):
        at = int(rng.integers(len(raw)))
        (out / name).write_bytes(raw[:at] + bytes([raw[at] ^ (1 << int(rng.integers(8)))]) + raw[at + 1 :])
        with pytest.raises(UserError, match=f"{name}: changed: its hash is .*, and SHA256SUMS has"):
            read_adapters(out, given.run)
            pytest.fail(f"byte {at} was read without a word")
    (out / name).write_bytes(raw)
    (out / offered.SUMS).unlink()
    said(lora_alpha=4.0)(out)
    b = "block_1/mixer/query/lora/b"
    np.testing.assert_allclose(read_adapters(out, given.run).params[b], 2 * read.params[b], rtol=1e-6)


def test_a_form_that_is_not_known_is_refused(golden, tiny, tmp_path):
    given = of_golden(golden, tiny, "llama_gqa_untied")
    shutil.copytree(given.folder, tmp_path / "peft")
    weights = tmp_path / "peft" / peft.WEIGHTS
    save_file(load_file(weights), weights, {"form": "nf5"})
    with pytest.raises(UserError, match="no form of kernels is called 'nf5', only float, int8, nf4, q4_1"):
        read_adapters(tmp_path / "peft", given.run)


def said(**settings):
    def change(folder):
        path = folder / peft.SETTINGS
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    return change


def held(change):
    def write(folder):
        arrays = load_file(folder / peft.WEIGHTS)
        change(arrays)
        save_file(arrays, folder / peft.WEIGHTS)

    return write


FIRST = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"


def large(arrays):
    other = FIRST.replace("lora_A", "lora_B")
    arrays[other] = np.full_like(arrays[other], 10)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (said(use_dora=True), "use_dora=True is not known here, only False"),
        (said(peft_type="IA3"), "peft_type=IA3 is not known here, only 'LORA'"),
        (said(modules_to_save=["lm_head"]), "modules_to_save=.* is not known here"),
        (said(bias="all"), "bias=all is not known here"),
        (said(alpha_pattern={"(": 3}), "is no pattern"),
        (said(lora_alpha="much"), "lora_alpha no number"),
        (said(lora_alpha=float("nan")), "lora_alpha no number"),
        (said(lora_alpha=10**400), "lora_alpha no number"),
        (said(alpha_pattern={"down_proj": "5"}), "alpha_pattern is no table of numbers"),
        (lambda folder: (said(lora_alpha=3e38)(folder), held(large)(folder)), "times alpha are too large"),
        (held(lambda arrays: arrays.pop(FIRST)), "needs two matrices"),
        (held(lambda arrays: arrays.update({FIRST: arrays[FIRST][:1]})), "do not fit together"),
        (held(lambda arrays: arrays.update({FIRST: arrays[FIRST][:, :8].copy()})), "adapters of another model"),
        (
            held(lambda arrays: arrays.update({"base_model.model.lm_head.lora_A.weight": arrays[FIRST]})),
            "is no adapter of",
        ),
        (held(lambda arrays: arrays.clear()), "no adapter in it"),
        (lambda folder: (folder / peft.WEIGHTS).unlink(), "does not exist"),
        (lambda folder: (folder / peft.SETTINGS).write_text("{"), "not JSON"),
        (lambda folder: (folder / peft.SETTINGS).unlink(), "is not the workdir of a run"),
    ],
)
def test_another_kind_of_adapter_is_refused(golden, tiny, tmp_path, change, says):
    given = of_golden(golden, tiny, "llama_gqa_untied")
    shutil.copytree(given.folder, tmp_path / "peft")
    change(tmp_path / "peft")
    with pytest.raises(UserError, match=says):
        read_adapters(tmp_path / "peft", given.run)
