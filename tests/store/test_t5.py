"""T5 as a folder of transformers: in, by the commands, and out again; what the files do not say, or say wrongly."""

import json
import os
import shutil

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from juliagpt_jax import export, generate, import_model, score
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.store import export as exports
from juliagpt_jax.store import families, hf, tensors
from juliagpt_jax.store.workdir import find, open_run

TRAINING = ["--config=configs/micro.py", "--config.train.batch_size=4"]
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def call(module, *arguments, overrides=False):
    module.main(module.parser().parse([str(a) for a in arguments], overrides))


def opened(workdir):
    return open_run(find(workdir, kind="t5"))


def tokenizer() -> dict:
    """A SentencePiece model as transformers writes T5's: unigrams, padding 0, </s> 1 behind each text, <unk> 2."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in LETTERS)]
    library = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    library.normalizer = normalizers.Strip()
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.decoder = decoders.Metaspace()
    library.add_special_tokens(["<pad>", "</s>", "<unk>"])
    library.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return json.loads(library.to_str())


@pytest.fixture(scope="module")
def folders(golden, tmp_path_factory):
    """Both golden models with a tokenizer, and the workdirs made of them."""
    home = tmp_path_factory.mktemp("t5")
    for name in ("v1_0", "v1_1"):
        shutil.copytree(golden / "t5" / name, home / name)
        (home / name / "io.npz").unlink()
        (home / name / "tokenizer.json").write_text(json.dumps(tokenizer()))
        call(import_model, f"--source={home / name}", f"--workdir={home / name}_run", *TRAINING, overrides=True)
    return home


def test_a_prompt_is_read_by_the_encoder(folders, capsys):
    """By the command: the answer alone, as the generator writes it behind the prompt's ids and the end of a text."""
    run = opened(folders / "v1_0_run")
    assert run.model.encodes and run.tokenizer.prefix == () and run.tokenizer.eos == 1
    source = run.tokenizer.source("the nature of")
    assert source[-1] == 1 and (source[:-1] > 2).all() and len(source) == 15
    new = Generator(run.model, run.params).generate([source], 9, Rule(greedy=True))[0]
    ends = np.flatnonzero(new == 1)
    wanted = run.tokenizer.decode(new[: ends[0]] if len(ends) else new)
    capsys.readouterr()
    call(generate, f"--workdir={folders / 'v1_0_run'}", "--prompt=the nature of", "--greedy", "--max_new_tokens=9")
    assert capsys.readouterr().out == f"{wanted}\n"


def test_what_a_tokenizer_of_sentencepieces_kind_reads(folders):
    """Lines and several blanks are a blank; what it lacks is told by name, and blanks are never told, or skipped."""
    own = opened(folders / "v1_0_run").tokenizer
    plain = own.source("the nature of").tolist()
    assert own.source(" the\nnature  of ").tolist() == own.source("The nature of", "fold").tolist() == plain
    assert own.source("the nature of?", "skip").tolist() == own.source("? the nature of", "skip").tolist() == plain
    assert own.source("").tolist() == [1]
    with pytest.raises(UserError, match=r"characters the tokenizer lacks: '\?' \(U\+003F\); --unknown=skip"):
        own.source("the nature of ?")


@pytest.mark.parametrize("name", ["v1_0", "v1_1"])
def test_out_and_in_again(name, folders, tmp_path):
    call(export, f"--workdir={folders / name}_run", "--format=hf", f"--out={tmp_path / 'out'}")
    facts, old = (json.loads((f / "config.json").read_text()) for f in (tmp_path / "out", folders / name))
    for key in {*old} - {"dropout_rate", "tie_word_embeddings"}:
        assert facts[key] == old[key], key
    assert facts["tie_word_embeddings"] is (name == "v1_0")
    given, found = tensors.read(folders / name / "model.safetensors")[0], tensors.read(tmp_path / "out" / hf.WEIGHTS)[0]
    for key, array in found.items():
        np.testing.assert_array_equal(array, given[key])
    assert {*given} - {*found} == ({*families.T5.settled({}, {})[1]} if name == "v1_1" else UNREAD)
    content = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert content["post_processor"] == tokenizer()["post_processor"]
    page = (tmp_path / "out" / "README.md").read_text()
    assert "T5ForConditionalGeneration" in page and "text2text-generation" in page
    call(import_model, f"--source={tmp_path / 'out'}", f"--workdir={tmp_path / 'run'}", *TRAINING, overrides=True)
    before, after = opened(folders / f"{name}_run"), opened(tmp_path / "run")
    assert after.config.model == before.config.model
    both = [flatten_dict(run.params, sep="/") for run in (before, after)]
    assert both[0].keys() == both[1].keys()
    for path, leaf in both[0].items():
        np.testing.assert_array_equal(leaf, both[1][path])


UNREAD = {
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
}


def test_the_tensors_say_what_is_tied_and_the_flag_what_is_scaled(golden):
    """Also as transformers 5 writes it, whose flag of ties is always true; a head that is the embedding is none."""
    facts = json.loads((golden / "t5" / "v1_1" / "config.json").read_text())
    five = {**facts, "tie_word_embeddings": True, "scale_decoder_outputs": False}
    fields = families.read_fields(five)[1]
    assert fields == families.read_fields(facts)[1] and not fields["t5"]["scale_head"]
    embedding, other = np.ones((4, 2), np.float32), np.zeros((4, 2), np.float32)
    for head, tie in [({}, True), ({"lm_head.weight": embedding}, True), ({"lm_head.weight": other}, False)]:
        found, kept = families.T5.settled(fields, {"shared.weight": embedding} | head)
        assert found["tie"] is tie and ("lm_head.weight" in kept) is not tie
    found, kept = families.T5.settled(fields, {"encoder.embed_tokens.weight": embedding})
    assert [*kept] == ["shared.weight"]
    with pytest.raises(UserError, match=r"decoder.embed_tokens.weight is not shared.weight"):
        families.T5.settled(fields, {"shared.weight": embedding, "decoder.embed_tokens.weight": other})


@pytest.mark.parametrize(
    "change, says",
    [
        (
            {"feed_forward_proj": "gated-silu"},
            "feed_forward_proj='gated-silu' is not known here, only relu and gated-gelu",
        ),
        ({"decoder_start_token_id": 3}, "decoder_start_token_id=3 is not known here, only 0"),
        ({"num_layers": 0}, "num_layers must be a whole number above 0"),
        ({"num_decoder_layers": 3}, "there is no tensor decoder.block.2.layer.0"),
        ({"num_layers": 1}, "tensors have no place in such a model: encoder.block.1.layer.0"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_mistakes_of_a_folder(change, says, folders, tmp_path):
    shutil.copytree(folders / "v1_0", tmp_path / "in")
    facts = json.loads((tmp_path / "in" / "config.json").read_text())
    (tmp_path / "in" / "config.json").write_text(json.dumps(facts | change))
    with pytest.raises(UserError, match=says):
        call(import_model, f"--source={tmp_path / 'in'}", f"--workdir={tmp_path / 'run'}", *TRAINING, overrides=True)


def test_a_tokenizer_of_sentencepiece_alone(folders, tmp_path):
    shutil.copytree(folders / "v1_0", tmp_path / "in")
    (tmp_path / "in" / "tokenizer.json").rename(tmp_path / "in" / "spiece.model")
    with pytest.raises(UserError, match=r"spiece.model is read where a tokenizer.json lies beside it.*save_pretrained"):
        call(import_model, f"--source={tmp_path / 'in'}", f"--workdir={tmp_path / 'run'}", *TRAINING, overrides=True)


def test_commands_that_a_t5_is_not_for(folders, tmp_path):
    run = f"--workdir={folders / 'v1_0_run'}"
    calls = [
        (score, f"--out={tmp_path / 'x.npz'}"),
        (generate, "--chat"),
        (generate, f"--draft={folders / 'v1_0_run'}"),
    ]
    for module, flag in calls:
        with pytest.raises(
            UserError, match=r"a T5, which answers prompts: generate \(without --chat and --draft\), ev"
        ):
            call(module, run, flag)
    with pytest.raises(UserError, match=r"--format=gguf takes models of Llama's form"):
        call(export, run, "--format=gguf", f"--out={tmp_path / 'x.gguf'}")
    for flag, says in [("--evict", "--evict: a T5 has no cache"), ("--sinks=2", "--sinks: a T5 sees all")]:
        with pytest.raises(UserError, match=says):
            call(generate, run, "--prompt=a", flag)
    with pytest.raises(UserError, match=r"--strict: a prompt of 3 tokens or its answer is beyond the context of 64"):
        call(generate, run, "--prompt=a", "--strict", "--max_new_tokens=64")


@pytest.mark.slow
def test_a_folder_of_the_users(tmp_path):
    """T5_FOLDER, of a T5 that was trained to translate, as t5-small and FLAN were: every tensor has its place, and the
    right translation is likelier than its words in another order, and than behind another sentence."""
    folder = os.environ.get("T5_FOLDER")
    if not folder:
        pytest.skip("T5_FOLDER names no folder with config.json, safetensors and tokenizer.json of a T5")
    call(import_model, f"--source={folder}", f"--workdir={tmp_path / 'run'}", *TRAINING, overrides=True)
    run = opened(tmp_path / "run")

    def loss(prompt, answer):
        source, target = run.tokenizer.source(prompt)[None], run.tokenizer.source(answer)[None]
        given = {"source": source, "tokens": np.pad(target[:, :-1], ((0, 0), (1, 0)))}
        logits, *_ = run.model.apply({"params": run.params}, given)
        return float(token_losses(logits, target).mean())

    asked, answer = "translate English to German: The house is wonderful.", "Das Haus ist wunderbar."
    right = loss(asked, answer)
    assert right < 1.0
    assert right < loss(asked, "wunderbar ist Das Haus.") - 0.5
    assert right < loss("translate English to German: My dog sleeps.", answer) - 0.5
    new = Generator(run.model, run.params, slots=64).generate([run.tokenizer.source(asked)], 16, Rule(greedy=True))[0]
    print(run.tokenizer.decode(new))


def test_one_that_reads_characters_leaves_and_comes_back(folders, tmp_path):
    """Its texts end with the end of a line, which its files say too, for want of an id of its own."""
    run = open_run(find(folders / "v1_1_run", kind="t5"))
    params = {path: np.asarray(leaf) for path, leaf in flatten_dict(run.params, sep="/").items()}
    own = CharTokenizer("\n" + "".join(map(chr, range(65, 104))))
    hf.write(tmp_path, params, run.config.model, own, "f32", "a card")
    back = exports.read(tmp_path).tokenizer
    assert back.ending == own.ending == 0 and back.source("ABC").tolist() == own.source("ABC").tolist() == [1, 2, 3, 0]
    library = pytest.importorskip("tokenizers").Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert library.encode("ABC").ids == [1, 2, 3, 0]
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / name).read_text())["eos_token_id"] in (0, [0])
