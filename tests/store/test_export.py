"""A model leaves and comes back: the same numbers, or one line that says why not. What the other programs make of the
files is in test_outside.py, by hand."""

import dataclasses
import json
import string
import struct
from pathlib import Path

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from juliagpt_jax.data import bpe, vocabularies
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.library import LibraryTokenizer
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground import config, files
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.build import build_model
from juliagpt_jax.store import export, families, hf, tensors
from juliagpt_jax.store import gguf as store_gguf
from juliagpt_jax.store.workdir import Run
from juliagpt_jax.training import start

TOKENIZER = CharTokenizer.train("\n\t " + string.ascii_lowercase + "é€😀\\")
SHAPE = ("model.width=16", "model.heads=4", "model.kv_heads=2", "model.layers=2", "model.ffn_mult=2.2")
FORMS = {
    "llama": (),
    "llama, other numbers": ("model.tie=false", "model.kv_heads=0", "model.rope_base=500", "model.norm_eps=1e-6"),
    "gpt2": (
        *("model.norm=layer", "model.positions=learned", "model.bias=true", "model.channel=gelu", "model.kv_heads=0"),
        *("model.ffn_mult=4", "model.heads=2", "model.tie=false"),
    ),
    "qwen3": ("model.qk_norm=true",),
}
GGUF = [("gguf", form) for form in ("llama", "llama, other numbers", "qwen3")]
OURS = {  # forms that only our own file holds
    "experts": ("model.channel=moe", "model.moe.experts=3"),
    "monarch": ("model.mixer=monarch attention", "model.channel=monarch", "model.monarch.blocks=2", "model.ffn_mult=2"),
    "ode": ("model.depth=ode", "model.ode.time=generated"),
    "switches": ("model.x0_skip=true", "model.softcap=4"),
    "newer switches": ("model.head_gate=true", "model.unet=true", "model.value_embedding=x0"),
}


def random_run(settings: config.Config, tokenizer=TOKENIZER) -> Run:
    """A run that has not trained, every parameter different from 0 and 1."""
    model = build_model(settings, tokenizer.vocab_size)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(0.5, 0.5, s.shape), jnp.float32), shapes)
    meta = {"step": 7, "data": "d4", "commit": "c0", "device": "1 x cpu", "val_loss": 1.25}
    return Run(settings, tokenizer, model, params, 7, meta, Path("runs/name/checkpoints/7"))


def flat(run: Run) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in flatten_dict(run.params, sep="/").items()}


def written(run: Run, kind: str, out: Path, precision: str = "f32", report=(), averaged=False) -> Path:
    export.export(dataclasses.replace(run, averaged=averaged), kind, out, precision, dict(report))
    return out


@pytest.mark.parametrize("kind, form", [*((k, f) for k in ("hf", "safetensors") for f in FORMS), *GGUF])
def test_there_and_back(kind, form, tiny, tmp_path):
    run = random_run(tiny(*SHAPE, *FORMS[form]))
    given = export.read(written(run, kind, tmp_path / "out"))
    assert given.tokenizer.to_dict() == TOKENIZER.to_dict()
    again = config.to_dict(run.config)
    again["model"] |= given.fields
    model = config.build(again).model
    assert model.hidden == run.config.model.hidden
    plain = {"ffn_mult": 0.0}  # which may come back as another number for the same hidden width
    assert config.to_dict(model) | plain == config.to_dict(run.config.model) | plain
    assert set(given.params) == set(flat(run))
    for path, array in flat(run).items():
        np.testing.assert_array_equal(given.params[path], array, err_msg=path)


@pytest.mark.parametrize("form", OURS)
def test_forms_of_our_own(form, tiny, tmp_path):
    run = random_run(tiny(*SHAPE, *OURS[form]))
    for kind in ("hf", "gguf"):
        with pytest.raises(UserError) as error:
            written(run, kind, tmp_path / kind)
        assert OURS[form][0].partition("=")[0] in str(error.value) and "--format=safetensors" in str(error.value)
        assert list(tmp_path.iterdir()) == [], "nothing is left of a refusal"
    given = export.read(written(run, "safetensors", tmp_path / "out"))
    assert given.fields == config.to_dict(run.config)["model"]
    for path, array in flat(run).items():
        np.testing.assert_array_equal(given.params[path], array, err_msg=path)


def test_every_knob_of_the_model_is_known_or_stands_against_an_export(tiny):
    """So a new knob cannot be left behind in silence: changed, it is refused; or it is named as without effect."""
    run = tiny(*SHAPE)
    family = families.family_of(run.model)
    assert family is families.Llama
    known = {*family.fields(family.facts(run.model, 5)), "ffn_mult"}
    for name in config.to_dict(run.model):
        assert name in known or name.startswith(families.UNUSED), f"model.{name}: say it in store/families.py"


def test_of_transformers_own_folders(golden, tmp_path, tiny):
    """Exported again, an imported folder has the same tensors and settings."""
    for name in ("llama_mha_tied", "llama_gqa_untied", "gpt2_tied"):
        facts = json.loads((golden / name / "config.json").read_text())
        fields, params = hf.read_model(golden / name, facts)
        values = config.to_dict(tiny())
        values["model"] |= fields
        model = config.build(values).model
        family = families.family_of(model)
        theirs = load_file(golden / name / "model.safetensors")
        ours = families.to_tensors(family, params, model)
        assert set(ours) == set(theirs)
        for tensor, array in ours.items():
            np.testing.assert_array_equal(array, theirs[tensor], err_msg=tensor)
        again = family.facts(model, facts["vocab_size"])
        for key, value in again.items():
            if key != "n_inner":  # null there, for 4 n_embd
                assert facts[key] == value, key


@pytest.mark.parametrize("precision, step", [("f16", 2.0**-10), ("bf16", 2.0**-7)])
def test_half_precision(precision, step, tiny, tmp_path):
    run = random_run(tiny(*SHAPE))
    folder = written(run, "hf", tmp_path / "hf", precision)
    with safe_open(folder / "model.safetensors", "numpy") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {precision.upper()}
    assert json.loads((folder / "config.json").read_text())["dtype"] == hf.DTYPES[precision]
    given = export.read(folder)
    for path, array in flat(run).items():
        error = np.abs(given.params[path] - array)
        assert (error <= step * np.abs(array) + 1e-7).all() and error.max() > 0


def test_a_number_too_large_for_f16(tiny, tmp_path):
    run = random_run(tiny(*SHAPE))
    run.params["block_1"]["channel"]["up"]["kernel"] *= 1e6
    for kind in export.FORMATS:
        with pytest.raises(UserError, match=r"--precision=f16: .*up.*too large"):
            written(run, kind, tmp_path / kind, "f16")
        assert list(tmp_path.iterdir()) == []
        written(run, kind, tmp_path / kind, "bf16")
        files.shutil.rmtree(tmp_path / kind) if kind == "hf" else (tmp_path / kind).unlink()


@pytest.mark.parametrize("precision", tensors.STORED)
def test_gguf(precision, tiny, tmp_path):
    """Read by the library: the settings, the tokens, and matrices whose rows rotate as neighbours."""
    run = random_run(tiny(*SHAPE, "model.tie=false"))
    model = run.config.model
    reader = gguf.GGUFReader(written(run, "gguf", tmp_path / "m.gguf", precision))
    value = lambda key: reader.get_field(key).contents()
    assert value("general.architecture") == "llama"
    assert value("llama.attention.head_count_kv") == 2 and value("llama.context_length") == model.context
    assert value("llama.rope.dimension_count") == 4 and value("llama.feed_forward_length") == model.hidden
    assert abs(value("llama.attention.layer_norm_rms_epsilon") - 1e-5) < 1e-9
    tokens = [t.encode().decode("unicode_escape") if t.startswith("\\") else t for t in value("tokenizer.ggml.tokens")]
    assert "".join(tokens) == TOKENIZER.characters
    named = {t.name: gguf.dequantize(t.data, t.tensor_type).reshape(t.shape[::-1]) for t in reader.tensors}
    # neighbours (2i, 2i + 1) of theirs are (i, i + C/2) of ours
    C, query = 4, flat(run)["block_1/mixer/query/kernel"].T
    order = [h * C + i + half * C // 2 for h in range(4) for i in range(C // 2) for half in range(2)]
    close = dict(rtol={"f32": 0, "f16": 2.0**-10, "bf16": 2.0**-7}[precision], atol=1e-7)
    np.testing.assert_allclose(named["blk.1.attn_q.weight"], query[order], **close)
    np.testing.assert_allclose(named["blk.1.attn_v.weight"], flat(run)["block_1/mixer/value/kernel"].T, **close)
    np.testing.assert_allclose(named["output.weight"], flat(run)["head"].T, **close)
    np.testing.assert_array_equal(named["blk.0.ffn_norm.weight"], flat(run)["block_0/channel_norm/scale"])
    assert len(named) == 9 * 2 + 3


def test_the_folder_says_which_inputs_and_how_long(tiny, tmp_path):
    """Else transformers 4 gives the model token types, which it refuses, and a pipeline writes past the context."""
    written(random_run(tiny(*SHAPE)), "hf", tmp_path / "hf")
    read = lambda name: json.loads((tmp_path / "hf" / name).read_text())
    assert read("tokenizer_config.json")["model_input_names"] == ["input_ids", "attention_mask"]
    assert read("generation_config.json") == {"max_length": read("config.json")["max_position_embeddings"]}


def test_gguf_has_no_form_for_gpt2_and_no_rule_for_every_tokenizer(tiny, tmp_path):
    with pytest.raises(UserError, match="models of Llama's form"):
        written(random_run(tiny(*SHAPE, *FORMS["gpt2"])), "gguf", tmp_path / "m")
    own = bpe.train(WORDS, 300)
    for step in (
        {"type": "Whitespace"},
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    ):
        other = LibraryTokenizer(own.content | {"pre_tokenizer": step}, own.vocab_size, None, own.special)
        with pytest.raises(UserError, match="own converter may take this tokenizer"):
            written(random_run(tiny(*SHAPE), other), "gguf", tmp_path / "m")
    assert not (tmp_path / "m").exists()


WORDS = ["the sea, the sea! 10 ships & <unk>\n", "no sea, no ships\n"] * 3


@pytest.mark.parametrize("unk", [False, True])
@pytest.mark.parametrize("more", [0, 3])  # a model may have more embeddings than there are tokens
def test_gguf_takes_words(unk, more, tiny, tmp_path):
    """What a stranger's reader makes of the file cuts and numbers any text as the tokenizer that was written."""
    made = bpe.train(WORDS, 300, unk)
    tokenizer = LibraryTokenizer(made.content, made.vocab_size + more, None, made.special)
    run = random_run(tiny(*SHAPE, "model.qk_norm=true"), tokenizer)
    contents = store_gguf.read(written(run, "gguf", tmp_path / "m.gguf"))
    assert contents.values["general.architecture"] == "qwen3" and contents.facts["model_type"] == "qwen3"
    assert contents.values["tokenizer.ggml.pre"] == "gpt-2" and contents.values["tokenizer.ggml.eos_token_id"] == 1
    content, special, _ = store_gguf.tokens(contents)
    theirs = hf.tokenizer_of(content, run.model.vocab, special, None)
    assert (theirs.eos, theirs.stops, theirs.prefix) == (tokenizer.eos, tokenizer.stops, ())
    for text in ("the sea of 1984 <unk> <eos>\n", "  Ünd 'tis\r\n\tno\u3000日本 😀"):
        np.testing.assert_array_equal(theirs.encode(text), tokenizer.encode(text))
    with pytest.raises(AssertionError):  # the comparison sees another rule
        np.testing.assert_array_equal(theirs.encode("see 10"), tokenizer.encode("see  10"))


@pytest.mark.parametrize("kind", export.FORMATS)
def test_what_is_there_stays(kind, tiny, tmp_path):
    run, out = random_run(tiny(*SHAPE)), tmp_path / "out"
    if kind == "hf":
        out.mkdir()
    mine = out / "mine" if kind == "hf" else out
    mine.write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        written(run, kind, out)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("kind", export.FORMATS)
def test_a_crash_leaves_nothing(kind, tiny, tmp_path, monkeypatch):
    """Whatever is being written when the disk is full; and what a killed process left is no hindrance."""
    run, out = random_run(tiny(*SHAPE)), tmp_path / "out"

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            written(run, kind, out)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "half").write_text("half")
    written(run, kind, out)
    assert out.exists() and (kind != "hf" or "half" not in {p.name for p in out.iterdir()})


def test_model_card(tiny, tmp_path):
    """It tells the numbers of the weights that are in the folder, and of no others."""
    run = random_run(tiny(*SHAPE, "train.ema=0.9"))
    score = {"loss": 1.111, "perplexity": 3.037, "bpc": 1.603, "characters": 4321, "context": 16, "stride": 8}
    report = score | {"step": 7, "entropy": 0.51, "averaged": score | {"loss": 1.222}}
    text = lambda n, **more: (written(run, "hf", tmp_path / n, **more) / "README.md").read_text()
    whole = text("a", report=report)
    assert "loss 1.1110" in whole and "1.6030 bits per character" in whole and "4,321" in whole and "0.5100" in whole
    assert f"| tokenizer | char, 33 tokens, SHA-256 {tokenizers.digest(TOKENIZER)} |" in whole
    assert "# name" in whole and "seed 42" in whole and "schoolroom" in whole and "1.222" not in whole
    assert "loss 1.2220" in text("b", report=report, averaged=True)
    more = score | {"scored_tokens": 900, "bpb": 1.5, "word_perplexity": 88.888}
    assert "bits per byte" not in whole and "in 900 tokens" not in whole
    words = text("e", report=report | more | {"protocol": "900 tokens of it"})
    for says in ("in 900 tokens", "1.5000 bits per byte; word perplexity 88.89", "- protocol: 900 tokens of it"):
        assert says in words
    assert (
        "word" not in text("f", report=report | more | {"word_perplexity": None}).split("## Measured")[1].split("##")[0]
    )
    earlier = text("c", report=report | {"step": 20})
    assert "1.111" not in earlier and "Loss 1.2500" in earlier
    assert "Nothing was measured" in text("d", averaged=True)


def test_words_there_and_back(tiny, tmp_path):
    """The special tokens keep their tasks; a text begins with none of them unless the model was trained so."""
    learned = bpe.train(["the nature of things\n"] * 9, 270)
    for tokenizer in (learned, learned.begun_by(1)):
        run = random_run(tiny(*SHAPE), tokenizer)
        folder = written(run, "hf", tmp_path / f"first {tokenizer.first}")
        facts, own = (json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer_config.json"))
        assert (facts["bos_token_id"], facts["eos_token_id"]) == (tokenizer.first, 1)
        assert (own["bos_token"], own["eos_token"], own["pad_token"]) == bpe.SPECIAL
        assert export.read(folder).tokenizer.to_dict() == tokenizer.to_dict()
        card = (folder / "README.md").read_text()
        assert f"| tokenizer | library, 270 tokens, SHA-256 {tokenizers.digest(learned)} |" in card


@pytest.mark.parametrize(
    "facts, first, special",
    [
        ({"bos_token_id": 5, "eos_token_id": 6}, 5, {"bos": 0, "eos": 6, "pad": 2}),
        ({"bos_token_id": 1, "eos_token_id": [7, 8]}, 1, {"bos": 0, "eos": 7, "pad": 2}),
        ({"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 9}, None, {"bos": 0, "eos": 1, "pad": 9}),
        ({}, None, {"bos": 0, "eos": 1, "pad": 2}),
    ],
)
def test_tasks_of_tokens_from_outside(facts, first, special, tiny, tmp_path):
    """As config.json has them, else as they are called."""
    run = random_run(tiny(*SHAPE), bpe.train(["the nature of things\n"] * 9, 270))
    folder = written(run, "hf", tmp_path / "out")
    (folder / "SHA256SUMS").unlink()
    known = json.loads((folder / "config.json").read_text())
    known = {name: value for name, value in known.items() if not name.endswith("_token_id")}
    (folder / "config.json").write_text(json.dumps(known | facts))
    found = export.read(folder).tokenizer
    assert (found.first, found.special, found.eos) == (first, special, special["eos"])


TEMPLATE = "{% for m in messages %}<bos>{{ m.content }}<eos>{% endfor %}"


def test_a_chat_template_there_and_back(tiny, tmp_path):
    """From tokenizer_config.json, where it may have a name, or a file of its own; with every token that ends a turn."""
    learned = bpe.train(["the nature of things\n"] * 9, 270)
    talks = LibraryTokenizer(learned.content, 270, None, learned.special, (2,), TEMPLATE)
    run = random_run(tiny(*SHAPE), talks)
    folder = written(run, "hf", tmp_path / "out")
    again = export.read(folder).tokenizer
    assert again.template == TEMPLATE and again.stops == (1, 2) and again.to_dict() == talks.to_dict()
    plain = written(run, "safetensors", tmp_path / "m.safetensors")
    assert export.read(plain).tokenizer.to_dict() == talks.to_dict()
    (folder / "SHA256SUMS").unlink()
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATE}]
    changed(folder / "tokenizer_config.json", chat_template=named)
    assert export.read(folder).tokenizer.template == TEMPLATE
    (folder / "chat_template.jinja").write_text("own")
    changed(folder / "config.json", eos_token_id=[1, 7])
    changed(folder / "generation_config.json", eos_token_id=9)
    again = export.read(folder).tokenizer
    assert again.template == "own" and again.eos == 1 and again.stops == (1, 7, 9)
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    assert "byte 0 is not UTF-8" in refusal(folder)
    (folder / "chat_template.jinja").unlink()
    changed(folder / "tokenizer_config.json", chat_template=5)
    assert "its chat_template is no text" in refusal(folder)


def test_gpt2_with_its_own_tokenizer_files(tiny, golden, tmp_path):
    """vocab.json and merges.txt, or as OpenAI calls them; and tensors in two files with an index."""
    vocab = json.loads((golden / "gpt2_bpe" / "encoder.json").read_text())
    learned = vocabularies.read(golden / "gpt2_bpe")
    folder = written(random_run(tiny(*SHAPE, *FORMS["gpt2"]), learned), "hf", tmp_path / "out")
    (folder / "SHA256SUMS").unlink()
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json does not exist" in refusal(folder)
    whole = load_file(folder / "model.safetensors")
    halves = [dict(list(whole.items())[i::2]) for i in range(2)]
    for i, half in enumerate(halves):
        save_file(
            {name.removeprefix("transformer."): array for name, array in half.items()}, folder / f"m-{i}.safetensors"
        )
    places = {name.removeprefix("transformer."): f"m-{i}.safetensors" for i, half in enumerate(halves) for name in half}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    for names in vocabularies.PAIRS[::-1]:
        (folder / names[0]).write_text(json.dumps(vocab))
        files.shutil.copy(golden / "gpt2_bpe" / "vocab.bpe", folder / names[1])
        given = export.read(folder)
        assert given.tokenizer.encode(" The nature").tolist() == learned.encode(" The nature").tolist()
        assert set(names) < set(given.hashes) and given.tokenizer.eos == learned.eos
        for name in names:
            (folder / name).unlink()


@pytest.mark.parametrize("kind", ["qwen2", "mistral"])
def test_families_that_differ_by_a_flag(kind, tiny, tmp_path):
    """Qwen2 comes back as it left; Mistral is a Llama under another name, unless its window slides."""
    own = ("model.qkv_bias=true",) if kind == "qwen2" else ()
    run = random_run(tiny(*SHAPE, *own))
    folder = written(run, "hf", tmp_path / "out")
    (folder / "SHA256SUMS").unlink()
    facts = json.loads((folder / "config.json").read_text())
    assert (facts["model_type"], facts["architectures"]) == (
        ("qwen2", ["Qwen2ForCausalLM"]) if kind == "qwen2" else ("llama", ["LlamaForCausalLM"])
    )
    changed(folder / "config.json", model_type=kind, sliding_window=None)
    given = export.read(folder)
    assert set(given.params) == set(flat(run)) and given.fields["qkv_bias"] == (kind == "qwen2")
    for path, array in flat(run).items():
        np.testing.assert_array_equal(given.params[path], array, err_msg=path)
    changed(folder / "config.json", **{"sliding_window": 9, "use_sliding_window": True})
    assert "sliding_window" in refusal(folder)


# What comes from outside is material to judge.


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    return written(random_run(tiny(*SHAPE)), "hf", tmp_path_factory.mktemp("sound") / "hf")


@pytest.fixture(scope="module")
def file(tiny, tmp_path_factory):
    return written(random_run(tiny(*SHAPE)), "safetensors", tmp_path_factory.mktemp("sound") / "m.safetensors")


@pytest.fixture
def copy(folder, tmp_path):
    whole = Path(files.shutil.copytree(folder, tmp_path / "copy"))
    (whole / "SHA256SUMS").unlink()  # as another program would write the folder
    return whole


def refusal(source: Path) -> str:
    with pytest.raises(UserError) as error:
        export.read(source)
    assert len(str(error.value)) < 700
    return str(error.value)


def changed(path: Path, **facts) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.mark.parametrize(
    "facts, says",
    [
        ({"model_type": "bert"}, "model_type 'bert' is not known here"),
        ({"model_type": ["llama"]}, "is not known here"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu' is not known here, only 'silu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope_type='llama3'"),
        ({"rope_parameters": 5}, "not a config of a llama model"),
        ({"head_dim": 8}, "head_dim=8"),
        ({"num_hidden_layers": 3}, "no tensor model.layers.2"),
        ({"num_hidden_layers": 10**9}, "no tensor model.layers.2"),
        ({"num_hidden_layers": 1}, "9 tensors have no place"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers must be a whole number"),
        ({"hidden_size": 0}, "hidden_size must be a whole number above 0"),
        ({"vocab_size": 99}, "vocab_size=99"),
        ({"tie_word_embeddings": False}, "no tensor lm_head.weight"),
    ],
    ids=lambda v: str(v)[:40] if isinstance(v, dict) else "",
)
def test_a_config_that_is_not_for_these_weights(facts, says, copy):
    changed(copy / "config.json", **facts)
    assert says in refusal(copy)


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("config.json", None, "does not exist"),
        ("config.json", b"{", "not JSON"),
        ("config.json", b"[]", "not a JSON object"),
        ("config.json", b"[" * 100_000, "not JSON"),
        ("tokenizer.json", None, "does not exist"),
        ("tokenizer.json", b"{}", "not a tokenizer that the library tokenizers reads"),
        ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {"a": 5000000000}, "merges": []}}', "tokenizer.json"),
        ("model.safetensors", None, "does not exist"),
        ("model.safetensors", b"", "not a safetensors file"),
        ("model.safetensors", b"\x80\x04\x95pickle", "a pickle"),
        ("model.safetensors", b"PK\x03\x04" + b"\0" * 99, "a pickle"),
        ("model.safetensors", struct.pack("<Q", 2**62) + b"{}", "not a safetensors file"),
        ("model.safetensors", struct.pack("<Q", 90_000_000) + b"{}", "not a safetensors file"),
    ],
    ids=lambda v: v[:12] if isinstance(v, str) else "",
)
def test_a_file_that_is_not_what_its_name_says(name, content, says, copy):
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_bytes(content)
    assert says in refusal(copy) and str(copy) in refusal(copy)


def test_too_large_a_json_is_not_read(copy):
    with open(copy / "config.json", "r+b") as out:
        out.truncate(10**12)  # a hole: it takes no room on the disk, and would in memory
    assert "too large" in refusal(copy)


def test_a_pickle_is_named_where_the_weights_are_missing(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "pytorch_model.bin: a pickle" in refusal(copy)


def test_weights_in_parts(copy):
    named = load_file(copy / "model.safetensors")
    whole = export.read(copy).params
    (copy / "model.safetensors").unlink()
    names = sorted(named)
    for i, part in enumerate([names[:5], names[5:]]):
        tensors.write(copy / f"part-{i}.safetensors", {n: named[n] for n in part}, "f32", {})
    places = {n: f"part-{int(n in names[5:])}.safetensors" for n in names}
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    for path, array in export.read(copy).params.items():
        np.testing.assert_array_equal(array, whole[path])
    for bad in ("../part-0.safetensors", "/etc/passwd", "part-0.bin", 5):
        index.write_text(json.dumps({"weight_map": places | {names[0]: bad}}))
        assert "no file of this folder" in refusal(copy)
    index.write_text(json.dumps({"weight_map": []}))
    assert "no tensor" in refusal(copy)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers(bad, copy):
    path = copy / "model.safetensors"
    named = load_file(path)
    named["model.layers.1.mlp.up_proj.weight"][3, 4] = bad
    files.shutil.move(path, copy / "old")
    tensors.save_file(named, path)
    assert "up_proj.weight' holds numbers that are not finite" in refusal(copy)


def test_weights_of_another_kind(copy):
    path = copy / "model.safetensors"
    named = load_file(path)
    tensors.save_file(named | {"model.norm.weight": named["model.norm.weight"].astype(np.int32)}, path)
    assert "is of type I32" in refusal(copy)


def test_a_tied_model_may_repeat_its_head(copy):
    path = copy / "model.safetensors"
    named = load_file(path)
    embedding = named["model.embed_tokens.weight"]
    tensors.save_file(
        named | {"lm_head.weight": embedding, "model.layers.0.self_attn.rotary_emb.inv_freq": embedding}, path
    )
    export.read(copy)
    tensors.save_file(named | {"lm_head.weight": embedding + 1}, path)
    assert "1 tensors have no place in such a model: lm_head.weight" in refusal(copy)


def test_a_tokenizer_of_another_model(copy):
    other = CharTokenizer.train(TOKENIZER.characters + "ABC")
    (copy / "tokenizer.json").write_text(json.dumps(other.to_huggingface()))
    assert f"{other.vocab_size} characters, and the model {TOKENIZER.vocab_size} embeddings" in refusal(copy)


@pytest.mark.parametrize(
    "metadata, says",
    [
        ({}, "has weights only"),
        ({"format": "pt"}, "has weights only"),
        ({"config": "{"}, "its metadata are damaged"),
        ({"config": "[]"}, "config.data.path: missing"),
        ({"config": "5"}, "its metadata are damaged"),
        ({"config": "{}"}, "config.data.path: missing"),
        ({"tokenizer": "{}"}, "its metadata are damaged"),
        ({"tokenizer": '{"type": "char", "characters": "ba"}'}, "a character vocabulary must be sorted"),
        ({"meta": "5"}, "its metadata are damaged"),
    ],
    ids=lambda v: str(v)[:40] if isinstance(v, dict) else "",
)
def test_our_own_file_with_other_metadata(metadata, says, file, tmp_path):
    arrays, known = tensors.read(file)
    ours = metadata and "format" not in metadata
    tensors.save_file(arrays, tmp_path / "m", known | metadata if ours else {"a": "b"} | metadata)
    assert says in refusal(tmp_path / "m")


def test_our_own_file_with_more_layers_than_weights(file, tmp_path):
    arrays, known = tensors.read(file)
    values = json.loads(known["config"])
    values["model"]["layers"] = 10**9
    tensors.save_file(arrays, tmp_path / "m", known | {"config": json.dumps(values)})
    assert "2 blocks, and its config says model.layers=1000000000" in refusal(tmp_path / "m")


def test_random_damage(folder, file, tiny, tmp_path):
    """A few hundred files with bytes changed, cut off or doubled: one line or a sound model, never anything else."""
    rng = np.random.default_rng(5)
    copy = Path(files.shutil.copytree(folder, tmp_path / "copy"))
    (copy / "SHA256SUMS").unlink()
    own = Path(files.shutil.copy(file, tmp_path / "m.safetensors"))
    targets = [*(copy / name for name in ("config.json", "tokenizer.json", "model.safetensors")), own]
    refused, values = {}, config.to_dict(tiny())
    for target in targets:
        sound = target.read_bytes()
        # Of the large files, the header is where damage shows; a changed weight is a weight.
        head = len(sound) if target.suffix == ".json" else 8 + struct.unpack("<Q", sound[:8])[0]
        for _ in range(100):
            damaged = bytearray(sound)
            for _ in range(rng.integers(1, 4)):
                at = int(rng.integers(head))
                kind = rng.integers(4)
                at = min(at, len(damaged) - 1)
                if kind == 0:
                    damaged[at] = rng.integers(256)
                elif kind == 1:
                    damaged[at] ^= 1 << int(rng.integers(8))
                elif kind == 2:
                    del damaged[at : at + int(rng.integers(1, 20))]
                else:
                    damaged = damaged[: int(rng.integers(len(damaged) + 1))] or bytearray(b"\0")
            target.write_bytes(damaged)
            try:
                given = export.read(own if target is own else copy)
                settings = config.build(values | {"model": values["model"] | given.fields})
                start.check(build_model(settings, given.tokenizer.vocab_size), given.params)
            except UserError as error:
                assert "Traceback" not in str(error)
                refused[target.name] = refused.get(target.name, 0) + 1
        target.write_bytes(sound)
    assert all(refused[target.name] >= 50 for target in targets), refused
    export.read(copy), export.read(own)


def test_a_shorter_context(tiny, tmp_path):
    """Learned positions are cut, and what is left is computed as before; Monarch's filters are made for their
    context."""
    settings = tiny(*SHAPE, *FORMS["gpt2"])
    run = random_run(settings)
    given = export.Given({}, flat(run), TOKENIZER, {}, {})
    shorter, cut = export.with_context(settings, given, 10)
    params = unflatten_dict({tuple(p.split("/")): a for p, a in cut.params.items()})
    tokens = jnp.arange(10)[None]
    apply = lambda s, p: build_model(s, TOKENIZER.vocab_size).apply({"params": p}, tokens)[0]
    np.testing.assert_array_equal(apply(shorter, params), apply(settings, run.params))
    for bad in (1, settings.model.context + 1):
        with pytest.raises(UserError, match=f"--context={bad} is outside"):
            export.with_context(settings, given, bad)
    with pytest.raises(UserError, match=r"model\.mixer=monarch"):
        export.with_context(tiny("model.mixer=monarch"), given, 10)
