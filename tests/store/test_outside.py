"""What other programs make of what we write, and we of what they write: transformers, llama.cpp, lm-evaluation-harness.

Each needs its program, which is none of this project's dependencies; run by hand where they are installed.
"""

import json
import string
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from juliagpt_jax import harness, import_model
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground import config
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.models.build import build_model
from juliagpt_jax.store import export
from juliagpt_jax.store.workdir import open_run

TEXT = string.ascii_lowercase + "\n ,.;:'-é€😀\\\t"
TOKENIZER = CharTokenizer.train(TEXT)
PROMPT = "the nature \\ of\té😀\n\nendoftext"
SHAPE = ("model.width=48", "model.heads=4", "model.kv_heads=2", "model.layers=2", "model.context=64")
GPT2 = ("model.norm=layer", "model.positions=learned", "model.bias=true", "model.channel=gelu", "model.kv_heads=0")
FORMS = {"llama": (), "untied": ("model.tie=false", "model.kv_heads=0"), "gpt2": (*GPT2, "model.ffn_mult=4")}


@pytest.fixture(scope="module", params=FORMS)
def run(request, tiny):
    """A model with random weights, those of its norms and biases too, and logits of size 1."""
    settings = tiny(*SHAPE, *FORMS[request.param])
    model = build_model(settings, TOKENIZER.vocab_size)
    params = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 2), int))["params"]
    keys = jax.random.split(jax.random.key(2), 1000)
    spread = lambda i, p: p + (0.1 if p.ndim == 1 else 0) * jax.random.normal(keys[i], p.shape)
    leaves, tree = jax.tree.flatten(params)
    params = jax.tree.unflatten(tree, [spread(i, leaf) for i, leaf in enumerate(leaves)])
    facts = {"config": settings, "tokenizer": TOKENIZER, "model": model, "params": params, "step": 0, "meta": {}}
    return types.SimpleNamespace(**facts, folder=Path("runs/m/checkpoints/0"), form=request.param)


def greedy(run, prompt: str, count: int) -> str:
    new = Generator(run.model, run.params).generate([run.tokenizer.encode(prompt)], count, Rule(greedy=True))
    return run.tokenizer.decode(new[0])


def test_transformers_opens_it(run, tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    export.export(run, "hf", tmp_path / "hf", "f32", {})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert theirs.dtype == torch.float32
    assert tokenizer(TEXT)["input_ids"] == TOKENIZER.encode(TEXT).tolist()
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"]) == TEXT
    ids = np.random.default_rng(0).integers(0, TOKENIZER.vocab_size, (3, 64))
    with torch.no_grad():
        wanted = theirs(torch.tensor(ids)).logits.numpy()
    got = np.asarray(run.model.apply({"params": run.params}, jnp.asarray(ids))[0])
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=1e-5)
    written = theirs.generate(**tokenizer(PROMPT, return_tensors="pt"), max_new_tokens=25, do_sample=False)[0]
    assert tokenizer.decode(written) == PROMPT + greedy(run, PROMPT, 25)
    assert len(theirs.generate(**tokenizer(PROMPT, return_tensors="pt"))[0]) == 64, "to the context, not past it"
    writer = transformers.pipeline("text-generation", model=str(tmp_path / "hf"))
    assert len(writer(PROMPT)[0]["generated_text"]) == 64


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_transformers_opens_half_precision(run, precision, tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    export.export(run, "hf", tmp_path / "hf", precision, {})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert theirs.dtype == {"f16": torch.float16, "bf16": torch.bfloat16}[precision]
    given = export.read(tmp_path / "hf")
    params = unflatten_dict({tuple(path.split("/")): leaf for path, leaf in given.params.items()})
    ids = np.arange(32)[None]
    with torch.no_grad():
        wanted = theirs.float()(torch.tensor(ids)).logits.numpy()
    got = run.model.apply({"params": params}, jnp.asarray(ids))[0]
    np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_folder_of_transformers_with_its_own_tokenizer(kind, tmp_path, monkeypatch):
    """Weights, special tokens and byte-level BPE made by transformers: the same ids, logits and greedy text."""
    torch = pytest.importorskip("torch", reason="needs torch")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    tokenizers = pytest.importorskip("tokenizers")
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>"], initial_alphabet=alphabet)
    library.train_from_iterator(["the nature of things is the nature of the thing, and so on. " * 9], trainer)
    if kind == "llama":  # a text begins with <s>, as Llama's do
        template = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        library.post_processor = template
    transformers.PreTrainedTokenizerFast(tokenizer_object=library, bos_token="<s>").save_pretrained(tmp_path / "hf")
    torch.manual_seed(0)
    common = {"bos_token_id": 0, "eos_token_id": 0}
    if kind == "gpt2":
        model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=448, n_embd=32, n_layer=2, n_head=4, n_positions=64, **common)
        )
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(vocab_size=448, **sizes, max_position_embeddings=64, **common)
        )
    model = model.eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p + 0.15 * torch.randn_like(p))
    model.save_pretrained(tmp_path / "hf")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")

    flags = [f"--source={tmp_path / 'hf'}", f"--workdir={tmp_path / 'run'}", "--config=configs/micro.py"]
    import_model.main(import_model.parser().parse(flags, overrides=True))
    run = open_run(tmp_path / "run")
    assert run.config.model.norm_eps == (1e-5 if kind == "gpt2" else 1e-6) and run.model.vocab == 448
    text = "the nature of things is\n\n  the end é😀"
    ids = [*run.tokenizer.prefix, *run.tokenizer.encode(text).tolist()]
    assert theirs(text)["input_ids"] == ids and run.tokenizer.prefix == ((0,) if kind == "llama" else ())
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits.numpy()
        written = model.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False, pad_token_id=0)[0].tolist()
    got, *_ = run.model.apply({"params": run.params}, jnp.asarray([ids]))
    np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=1e-5)
    stop = written.index(0, len(ids)) if 0 in written[len(ids) :] else len(written)  # theirs ends there, ours goes on
    new = Generator(run.model, run.params).generate([np.array(ids)], 20, Rule(greedy=True))[0].tolist()
    assert new[: stop - len(ids)] == written[len(ids) : stop] and stop - len(ids) > 3


def test_llama_cpp_opens_it(run, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="needs llama-cpp-python")
    if run.form == "gpt2":
        pytest.skip("--format=gguf takes models of Llama's form")
    for precision in ("f32", "f16", "bf16"):
        export.export(run, "gguf", tmp_path / precision, precision, {})
        model = llama_cpp.Llama(
            str(tmp_path / precision), n_ctx=64, n_threads=1, logits_all=True, type_k=0, type_v=0, verbose=False
        )
        ids = model.tokenize(PROMPT.encode(), add_bos=False, special=False)
        assert ids == TOKENIZER.encode(PROMPT).tolist()
        assert model.detokenize(ids).decode() == PROMPT
        model.eval(ids)
        wanted = np.asarray(run.model.apply({"params": run.params}, jnp.asarray([ids]))[0])[0]
        got = np.array(model.scores[: len(ids)])
        error = np.abs(got - wanted).max()
        print(f"llama.cpp, {precision}: largest difference of a logit {error:.1e}, of {np.abs(wanted).max():.1f}")
        assert error < {"f32": 1e-4, "f16": 0.03, "bf16": 0.2}[precision]
        if precision == "f32":
            model.reset()
            out = []
            for token in model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
                out.append(token)
                if len(out) == 25:
                    break
            assert model.detokenize(out).decode() == greedy(run, PROMPT, 25)


def test_the_harness_runs_a_local_task(clean, tmp_path, capsys):
    """Multiple choice, perplexity and generation, on a file of this folder."""
    pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness")
    rows = [{"q": "the nature of", "a": [" truth", " qqqqq"], "gold": 0} for _ in range(3)]
    rows = [row | {"text": "the nature of truth is a line"} for row in rows]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows).replace("qqqqq", "grhts"))
    shared = f"""
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path / "data.jsonl"}}}}}
test_split: test
"""
    choice = """output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: "{{a}}"
doc_to_target: gold
metric_list: [{metric: acc}]
"""
    text = """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: bits_per_byte}]
"""
    writing = """output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: " truth"
generation_kwargs: {until: ["e"], max_gen_toks: 9}
metric_list: [{metric: exact_match}]
"""
    for name, body in {"mine_choice": choice, "mine_text": text, "mine_writing": writing}.items():
        (tmp_path / f"{name}.yaml").write_text(f"task: {name}\n{shared}{body}")
    names = "mine_choice,mine_text,mine_writing"
    flags = [f"--workdir={clean}", f"--tasks={names}", f"--task_folder={tmp_path}", "--json"]
    harness.main(harness.parser().parse(flags))
    results = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert set(results) == set(names.split(","))
    assert results["mine_choice"]["acc,none"] in (0.0, 1.0)
    assert 0.5 < results["mine_text"]["bits_per_byte,none"] < 6
    with pytest.raises(config.UserError, match="the harness knows no nothing_of_the_kind"):
        harness.main(harness.parser().parse([f"--workdir={clean}", "--tasks=nothing_of_the_kind"]))
