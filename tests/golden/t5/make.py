"""Make the arrays of this folder with transformers' T5 (5.24) and PyTorch: python make.py, in this folder.

Two tiny models with random weights, as files of theirs lie in a folder, and what they compute: `v1_0` (ReLU, tied head,
scaled) also has what old files carry and no model reads; `v1_1` (gated GELU, a head of its own, not scaled) has more
layers in its encoder than in its decoder. In both the heads together are not as wide as the model, and the texts of a
batch differ in length. `buckets.npz` has the bucket of each distance from -300 to 300.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

HERE = Path(__file__).parent
SIZES = {"vocab_size": 40, "d_model": 16, "d_kv": 4, "num_heads": 3, "d_ff": 24, "relative_attention_num_buckets": 8}
SIZES |= {"relative_attention_max_distance": 12, "dropout_rate": 0.0, "layer_norm_epsilon": 1e-6}
OWN = {
    "v1_0": {"num_layers": 2, "num_decoder_layers": 2, "feed_forward_proj": "relu", "tie_word_embeddings": True},
    "v1_1": {"num_layers": 3, "num_decoder_layers": 2, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}
IDS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}


def make(name: str) -> None:
    torch.manual_seed(len(name) + name.count("1"))
    settings = SIZES | OWN[name] | IDS
    model = T5ForConditionalGeneration(T5Config(**settings)).eval()
    tied = settings["tie_word_embeddings"]
    if not tied:  # transformers 5 ties the head of every new T5
        model.lm_head.weight = torch.nn.Parameter(torch.randn(40, 16) * 0.5)
    with torch.no_grad():
        for path, leaf in model.named_parameters():
            if "layer_norm" in path:
                leaf.copy_(1 + 0.2 * torch.randn_like(leaf))
            if "relative_attention_bias" in path:
                leaf.copy_(torch.randn_like(leaf))
            if path.endswith((".q.weight", ".k.weight")):
                leaf.mul_(2)
            if path.endswith((".o.weight", ".wo.weight")):  # or a tied head repeats the last token for ever
                leaf.mul_(4)
    source = torch.randint(2, 40, (3, 20))
    lengths = torch.tensor([20, 7, 13])
    there = torch.arange(20)[None] < lengths[:, None]
    source = torch.where(there, source, 0)
    source[torch.arange(3), lengths - 1] = 1
    labels = torch.randint(2, 40, (3, 15))
    labels[1, 9:] = -100
    labels[2, 14] = -100
    shared = model.shared(source).detach().requires_grad_(True)
    out = model(inputs_embeds=shared, attention_mask=there.long(), labels=labels)
    out.loss.backward()
    arrays = {"source": source, "lengths": lengths, "labels": labels, "logits": out.logits, "loss": out.loss}
    arrays["gradient_of_source"] = shared.grad
    wanted = [
        "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "decoder.block.1.layer.1.EncDecAttention.k.weight",
        "decoder.block.1.layer.2.layer_norm.weight",
        "decoder.final_layer_norm.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "encoder.block.1.layer.0.SelfAttention.q.weight",
    ]
    named = dict(model.named_parameters())
    arrays |= {f"gradient_of {path}": named[path].grad for path in wanted}
    model.generation_config.eos_token_id = None  # a model that was never trained ends where it likes
    greedy = model.generate(input_ids=source, attention_mask=there.long(), max_new_tokens=16, do_sample=False)
    arrays["greedy"] = greedy[:, 1:]
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / "io.npz", **{key: value.detach().numpy() for key, value in arrays.items()})
    held = {path: leaf.detach().clone().contiguous() for path, leaf in model.state_dict().items()}
    held = {path: leaf for path, leaf in held.items() if "embed_tokens" not in path}
    if tied:
        held.pop("lm_head.weight", None)
        held["encoder.embed_tokens.weight"] = held["shared.weight"].clone()
        held["decoder.embed_tokens.weight"] = held["shared.weight"].clone()
        held["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.randn(8, 3)
    save_file(held, folder / "model.safetensors", {"format": "pt"})
    facts = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": True}
    facts |= settings | {"n_positions": 64}
    if tied:  # as old files have it: the default is not written
        del facts["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(facts, indent=1) + "\n")


distances = torch.arange(-300, 301)
buckets = T5Attention._relative_position_bucket
np.savez_compressed(
    HERE / "buckets.npz",
    both=buckets(distances, True, 32, 128).numpy().astype(np.uint8),
    causal=buckets(distances, False, 32, 128).numpy().astype(np.uint8),
    small=buckets(distances, True, 8, 12).numpy().astype(np.uint8),
)
for name in OWN:
    make(name)
