"""Llama as Hugging Face's transformers computes it, from arrays made outside this project (tests/golden/README.md)."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from juliagpt_jax.data.sampler import IGNORED
from juliagpt_jax.evaluation.scoring import token_losses
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.models.parameters import paths

NAMES = {
    "embedding": "model.embed_tokens.weight",
    "head": "lm_head.weight",
    "norm/scale": "model.norm.weight",
    "mixer_norm/scale": "input_layernorm.weight",
    "channel_norm/scale": "post_attention_layernorm.weight",
    "mixer/query/kernel": "self_attn.q_proj.weight",
    "mixer/key/kernel": "self_attn.k_proj.weight",
    "mixer/value/kernel": "self_attn.v_proj.weight",
    "mixer/out/kernel": "self_attn.o_proj.weight",
    "channel/gate/kernel": "mlp.gate_proj.weight",
    "channel/up/kernel": "mlp.up_proj.weight",
    "channel/down/kernel": "mlp.down_proj.weight",
}


def theirs(path: str) -> str:
    """Our parameter's name in the checkpoint."""
    if path in NAMES:
        return NAMES[path]
    block, rest = path.split("/", 1)
    return f"model.layers.{block.removeprefix('block_')}.{NAMES[rest]}"


def turned(path: str, array: np.ndarray) -> np.ndarray:
    """Their Linear is (out, in), ours (in, out). The same both ways."""
    return array.T if path.endswith(("kernel", "head")) else array


@pytest.fixture(scope="module", params=["llama_mha_tied", "llama_gqa_untied"])
def llama(request, golden, tiny):
    folder = golden / request.param
    facts = json.loads((folder / "config.json").read_text())
    kv_heads, heads = facts["num_key_value_heads"], facts["num_attention_heads"]
    config = tiny(
        f"model.width={facts['hidden_size']}",
        f"model.layers={facts['num_hidden_layers']}",
        f"model.heads={heads}",
        f"model.kv_heads={0 if kv_heads == heads else kv_heads}",
        f"model.context={facts['max_position_embeddings']}",
        f"model.ffn_mult={facts['intermediate_size'] / facts['hidden_size']}",
        f"model.tie={facts['tie_word_embeddings']}",
    )
    model = Decoder(config.model, facts["vocab_size"])
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    stored = load_file(folder / "model.safetensors")
    loaded = {path: jnp.asarray(turned(path, stored.pop(theirs(path)))) for path in paths(shapes)}
    assert not stored, "every tensor of the checkpoint has its place"
    params = jax.tree.unflatten(jax.tree.structure(shapes), loaded.values())
    return SimpleNamespace(
        model=model,
        params=params,
        io=np.load(folder / "io.npz"),
        grads=np.load(folder / "param_grads.npz"),
        tied=facts["tie_word_embeddings"],
    )


def test_the_folders_differ_where_they_should(golden):
    facts = [json.loads((golden / f / "config.json").read_text()) for f in ("llama_mha_tied", "llama_gqa_untied")]
    assert [f["tie_word_embeddings"] for f in facts] == [True, False]
    assert [f["num_key_value_heads"] for f in facts] == [4, 2]


def loss_of(llama, params, labels):
    """Mean cross entropy of each label but the first, given what is before it; -100 is not scored."""
    logits, _ = llama.model.apply({"params": params}, jnp.asarray(llama.io["input_ids"]))
    targets = np.where(labels == -100, IGNORED, labels)[:, 1:]
    return jnp.sum(token_losses(logits[:, :-1], jnp.asarray(targets))) / np.sum(targets != IGNORED)


def test_logits(llama):
    logits, _ = jax.jit(llama.model.apply)({"params": llama.params}, llama.io["input_ids"])
    np.testing.assert_allclose(logits, llama.io["logits"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(logits, llama.io["logits_f64run"], atol=2e-5, rtol=0)


def test_logits_at_the_positions_of_a_left_padded_batch(llama):
    """Theirs are padded on the left; the same tokens at the same positions, padded on the right, must give the same."""
    mask, slots = llama.io["leftpad_attention_mask"].astype(bool), llama.model.model.context
    assert not mask.all()
    for row, kept in enumerate(mask):
        tokens, positions = (
            llama.io["input_ids"][row : row + 1, kept],
            llama.io["leftpad_position_ids"][row : row + 1, kept],
        )
        empty = llama.model.init_cache(1, slots)
        logits, _ = jax.jit(llama.model.apply)({"params": llama.params}, tokens, positions, empty)
        np.testing.assert_allclose(logits[0], llama.io["leftpad_logits"][row, kept], atol=2e-5, rtol=0)


@pytest.mark.parametrize("labels, wanted", [("input_ids", "loss"), ("labels_masked", "loss_masked")])
def test_loss(llama, labels, wanted):
    loss = jax.jit(lambda p: loss_of(llama, p, llama.io[labels]))(llama.params)
    assert abs(float(loss) - float(llama.io[wanted])) < 2e-6


def test_gradients(llama):
    grads = jax.jit(jax.grad(lambda p: loss_of(llama, p, llama.io["input_ids"])))(llama.params)
    ours = {theirs(path): turned(path, np.asarray(grad)) for path, grad in paths(grads).items()}
    assert set(ours) == set(llama.grads.files)
    for name, grad in ours.items():
        wanted = llama.grads[name]
        assert np.linalg.norm(grad - wanted) <= 1e-4 * np.linalg.norm(wanted), name
        np.testing.assert_allclose(grad, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max(), err_msg=name)


def test_greedy_continuation(llama):
    assert llama.io["greedy_min_margin"] > 1e-4, "no tie that rounding could decide"
    prompts, length = llama.io["prompt"], llama.io["prompt"].shape[1]
    new = Generator(llama.model, llama.params).generate(list(prompts), 16, Rule(greedy=True))
    np.testing.assert_array_equal(new, llama.io["greedy"][:, length:])
