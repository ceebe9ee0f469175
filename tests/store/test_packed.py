"""A model in few bits a weight: read again it is the model in memory, bit for bit, and a damaged file is one line."""

import json
import string
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import precision
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import by_path, count
from juliagpt_jax.store import export, packed
from juliagpt_jax.store.workdir import Run, open_run

TOKENIZER = CharTokenizer.train("\n " + string.ascii_lowercase)
SHAPE = ("model.width=22", "model.heads=1", "model.layers=1", "model.ffn_mult=1.5")  # no side divides by 4 or 5
TABLES = {"embedding": 0, "positions": 0, "head": 1}  # with the axis of their tokens
FORMS = {
    "attention": ("model.linear=ternary",),
    "untied, with biases": (
        *("model.linear=ternary", "model.tie=false", "model.bias=true", "model.norm=layer", "model.positions=learned"),
        "model.channel=gelu",
    ),
    "experts": ("model.linear=ternary", "model.channel=moe", "model.moe.experts=3"),
    "hybrid ODE": (
        *("model.linear=ternary", "model.mixer=monarch monarch_heads", "model.layers=2", "model.depth=ode stack"),
        *("model.channel=relu2 monarch", "model.monarch.blocks=2", "model.ffn_mult=2"),
    ),
}


def random_run(settings: config.Config) -> Run:
    """A run that has not trained."""
    model = build_model(settings, TOKENIZER.vocab_size)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(0.1, 0.4, s.shape), jnp.float32), shapes)
    return Run(settings, TOKENIZER, model, params, 7, {"step": 7, "data": "d4"}, Path("runs/name/checkpoints/7"))


def as_read_again(params, embedding: str):
    """What a file gives back of the parameters of a ternary model: tables as `embedding` says, the factors of Monarch
    Linears as float16 beside any but f32, the rest as it is."""

    def again(name, leaf):
        leaf, table = np.asarray(leaf), TABLES.get(name)
        factor = name.endswith(("/left", "/right")) and "/mixer/left" not in name and "/mixer/right" not in name
        if embedding == "int8" and table is not None:
            level = np.abs(leaf).max(axis=1 - table, keepdims=True) / np.float32(127)
            return np.round(leaf / level) * level
        if embedding != "f32" and (factor or table is not None):
            return leaf.astype(np.float16).astype(np.float32)
        return leaf

    return by_path(params, again)


def assert_same_tree(ours, theirs):
    ours, theirs = flatten_dict(ours, sep="/"), flatten_dict(theirs, sep="/")
    assert set(ours) == set(theirs)
    for path, leaf in ours.items():
        assert leaf.dtype == theirs[path].dtype and leaf.shape == theirs[path].shape, path
        np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)


@pytest.mark.parametrize("embedding", packed.EMBEDDINGS)
@pytest.mark.parametrize("form, packing", [*((form, "2bit") for form in FORMS), ("untied, with biases", "base3")])
def test_there_and_back(form, packing, embedding, tiny, tmp_path):
    run = random_run(tiny(*SHAPE, *FORMS[form]))
    path = tmp_path / "m.safetensors"
    export.pack(run, "ternary", path, packing, embedding)
    again = open_run(path)
    decoder, params = precision.prepare(run.model, run.params, "ternary")
    assert_same_tree(again.params, as_read_again(params, embedding))
    assert again.model == decoder and again.config == run.config and again.step == 7
    assert again.tokenizer.to_dict() == TOKENIZER.to_dict()
    assert count(again.params) == count(run.params)
    tables = [name for name in TABLES if name in params]
    size = {"f32": 4, "f16": 2, "int8": 1}[embedding]
    with safe_open(path, "numpy") as file:
        for name, array in flatten_dict(params, sep="/").items():
            if name.endswith("kernel_int8"):
                stored = file.get_tensor(f"{name.removesuffix('kernel_int8')}kernel_{packing}")
                rows, columns = array.size // array.shape[-1], array.shape[-1]
                assert stored.nbytes == -(-rows // {"2bit": 4, "base3": 5}[packing]) * columns
            if name in tables:
                stored = file.get_tensor(f"{name}_int8" if embedding == "int8" else name)
                assert stored.nbytes == size * array.size
        if (packing, embedding) == ("2bit", "f16"):
            assert packed.size(run.model, run.params) == sum(file.get_tensor(name).nbytes for name in file.keys())


@pytest.mark.parametrize("words", [(), ("model.linear=ternary", "model.depth=ode", "model.ode.time=lowrank")])
def test_the_size_of_what_cannot_be_packed_is_two_bytes_a_weight(words, tiny):
    run = random_run(tiny(*SHAPE, *words))
    assert packed.size(run.model, run.params) == 2 * count(run.params)


def test_int8_of_any_model(tiny, tmp_path):
    for n, words in enumerate([(), ("model.linear=subln",), ("model.channel=monarch", "model.monarch.blocks=2")]):
        run = random_run(tiny(*SHAPE, "model.ffn_mult=2", *words))
        export.pack(run, "int8", tmp_path / f"{n}", "", "f32")
        decoder, params = precision.prepare(run.model, run.params, "int8")
        again = open_run(tmp_path / f"{n}")
        assert_same_tree(again.params, params)
        assert again.model == decoder
        with pytest.raises(UserError, match="is a packed model, which has no gradients; give the workdir"):
            again.refuse_packed()
        with pytest.raises(UserError, match=r"is a packed model, which has lost .*; export from the workdir"):
            export.pack(again, "int8", tmp_path / "again", "", "f32")
        with pytest.raises(UserError, match="is a packed model, which trains no further"):
            export.read(tmp_path / f"{n}")


@pytest.mark.parametrize("kind, words", [("ternary", FORMS["attention"]), ("int8", ())])
def test_the_logits(kind, words, tiny):
    """In bytes a ternary model is the trained one to the bit, or, where rounding meets the edge of a level, nearly; a
    dense one is off by what 127 levels are coarse."""
    run = random_run(tiny(*SHAPE, *words))
    tokens = jnp.arange(24).reshape(2, 12) % TOKENIZER.vocab_size
    decoder, params = precision.prepare(run.model, run.params, kind)
    wanted, got = (
        np.asarray(jax.jit(model.apply)({"params": p}, tokens)[0])
        for model, p in [(run.model, run.params), (decoder, params)]
    )
    apart = np.abs(got - wanted)
    assert np.abs(wanted).max() > 1
    if kind == "ternary":
        assert np.median(apart) < 1e-5 and apart.max() < 0.1
    else:
        assert 1e-5 < apart.max() < 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize(
    "words, kind, says",
    [
        ((), "ternary", "was trained with model.linear=dense"),
        (("model.linear=subln",), "ternary", "was trained with model.linear=subln"),
        (("model.linear=ternary",), "int8", "weights of this model are ternary"),
        (("model.linear=monarch", "model.monarch.blocks=2", "model.ffn_mult=2"), "int8", "made of factors"),
        (("model.linear=ternary", "model.depth=ode", "model.ode.time=lowrank"), "ternary", "model.ode.time=lowrank"),
        (("model.depth=ode", "model.ode.time=generated"), "int8", "model.ode.time=generated"),
    ],
)
def test_what_cannot_be_had(words, kind, says, tiny, tmp_path):
    with pytest.raises(UserError, match=says):
        export.pack(random_run(tiny(*SHAPE, *words)), kind, tmp_path / "m", "2bit", "f16")
    assert list(tmp_path.iterdir()) == []


def test_before_it_turns_ternary_a_run_is_dense(tiny, tmp_path):
    """A file says what its weights are for, and not what they were to become."""
    settings = tiny(*SHAPE, "model.linear=ternary", "train.ternary_from=0.5")
    run = random_run(settings)
    subln = tiny(*SHAPE, "model.linear=subln")
    early = Run(settings, TOKENIZER, build_model(subln, TOKENIZER.vocab_size), run.params, 7, run.meta, run.folder)
    with pytest.raises(UserError, match=r"trained with model.linear=subln"):
        export.pack(early, "ternary", tmp_path / "a", "2bit", "f16")
    export.pack(early, "int8", tmp_path / "b", "", "f16")
    assert open_run(tmp_path / "b").config == subln
    export.export(early, "safetensors", tmp_path / "c", "f32", {})
    assert export.read(tmp_path / "c").fields["linear"] == "subln"


def test_numbers_too_large_for_f16(tiny, tmp_path):
    run = random_run(tiny(*SHAPE, *FORMS["attention"]))
    run.params["embedding"] *= 1e6
    with pytest.raises(UserError, match="--embedding=f16: embedding has numbers too large"):
        export.pack(run, "ternary", tmp_path / "m", "2bit", "f16")
    export.pack(run, "ternary", tmp_path / "m", "2bit", "int8")


def test_what_is_there_stays(tiny, tmp_path):
    (tmp_path / "m").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        export.pack(random_run(tiny(*SHAPE, *FORMS["attention"])), "ternary", tmp_path / "m", "2bit", "f16")
    assert (tmp_path / "m").read_text() == "mine"


# What comes from outside is material to judge.


@pytest.fixture(scope="module", params=["2bit", "base3"])
def sound(request, tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "m.safetensors"
    export.pack(random_run(tiny(*SHAPE, *FORMS["attention"])), "ternary", path, request.param, "int8")
    return path


def parts(path):
    with safe_open(path, "numpy") as file:
        return load_file(path), {key: value for key, value in file.metadata().items() if key != "sha256"}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        open_run(path)
    assert len(str(error.value)) < 700 and "\n" not in str(error.value)
    return str(error.value)


def test_a_byte_that_is_no_trits(sound, tmp_path):
    arrays, about = parts(sound)
    name = f"block_0/channel/up/kernel_{about['packing']}"
    for byte in {"2bit": (0b11, 0b11000000, 255), "base3": (243, 255)}[about["packing"]]:
        damaged = arrays[name].copy()
        damaged[1, 2] = byte
        save_file(arrays | {name: damaged}, tmp_path / "m", about)
        assert f"{name}: a byte of {byte} is no" in refusal(tmp_path / "m")


def test_a_tensor_that_is_not_what_its_config_says(sound, tmp_path):
    arrays, about = parts(sound)
    scale = "block_0/mixer/out/kernel_scale"
    kernel = f"block_0/mixer/query/kernel_{about['packing']}"
    for change, says in [
        ({kernel: arrays[kernel][:-1]}, f"{kernel} is uint8"),
        ({kernel: arrays[kernel].astype(np.int8)}, f"{kernel} is int8"),
        ({scale: np.float32([1])}, f"{scale} is float32[1], and its config has float32[]"),
        ({scale: np.array(np.nan, np.float32)}, f"{scale} holds numbers that are not finite"),
        ({"embedding_int8": arrays["embedding_int8"][1:]}, "embedding_int8 is int8"),
        ({"more": arrays[kernel]}, "1 tensors have no place in such a model: more"),
        ({"block_1/more": arrays[kernel]}, "2 blocks, and its config says model.layers=1"),
    ]:
        save_file(arrays | change, tmp_path / "m", about)
        assert says in refusal(tmp_path / "m")
    save_file({name: a for name, a in arrays.items() if name != scale}, tmp_path / "m", about)
    assert f"there is no tensor {scale}" in refusal(tmp_path / "m")


def test_metadata_that_are_damaged(sound, tmp_path):
    arrays, about = parts(sound)
    values = json.loads(about["config"])
    large = values | {"model": values["model"] | {"layers": 10**9}}
    for change, says in [
        ({"format": "pt"}, "is no packed model"),
        ({"config": "{"}, "no packed model either"),
        ({"config": "{}"}, "config.data.path: missing"),
        ({"config": json.dumps(large)}, "1 blocks, and its config says model.layers=1000000000"),
        ({"tokenizer": "5"}, "metadata are damaged"),
        ({"meta": "{}"}, "metadata are damaged"),
        ({"meta": '{"step": -1}'}, "metadata are damaged"),
        ({"packing": "3bit"}, "no packing is called '3bit'"),
        ({"packing": "int8"}, "no packing is called 'int8'"),
        ({"embedding": "f64"}, "no embedding is called 'f64'"),
    ]:
        save_file(arrays, tmp_path / "m", about | change)
        assert says in refusal(tmp_path / "m") and str(tmp_path / "m") in refusal(tmp_path / "m")
        if change.get("config", "")[:2] in ("{", "{}"):
            with pytest.raises(UserError, match=str(tmp_path / "m")):
                config.read(tmp_path / "m" / "config.json")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\x80\x04\x95pickle", b"PK\3\4" + b"\0" * 99, struct.pack("<Q", 2**62) + b"{}", b"\0" * 4096],
    ids=["empty", "json", "pickle", "zip", "huge header", "zeros"],
)
def test_a_file_that_is_none(content, tmp_path):
    (tmp_path / "m").write_bytes(content)
    assert str(tmp_path / "m") in refusal(tmp_path / "m")
    with pytest.raises(UserError, match="not the workdir of a run, and no packed model either"):
        config.read(tmp_path / "m" / "config.json")


def test_cut_short_or_damaged_anywhere(sound, tmp_path):
    """One line or a sound model, never anything else."""
    whole, rng, refused = sound.read_bytes(), np.random.default_rng(3), 0
    head = 8 + struct.unpack("<Q", whole[:8])[0]
    for trial in range(60):
        damaged = bytearray(whole)
        if trial % 3 == 0:
            damaged = damaged[: int(rng.integers(len(whole)))]
        else:
            damaged[int(rng.integers(head))] ^= 1 << int(rng.integers(8))
        (tmp_path / "m").write_bytes(damaged)
        try:
            open_run(tmp_path / "m")
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused >= 20
