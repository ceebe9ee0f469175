"""Write adapters that peft made, and what the models of two golden folders compute with them.

python tests/golden/peft/make.py        (peft 0.21.2, transformers 5.24.0, torch 2.14.1)
"""

from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent
MADE = {
    "llama_gqa_untied": {"target_modules": ["q_proj", "v_proj", "down_proj"], "rank_pattern": {"down_proj": 3}}
    | {"alpha_pattern": {"down_proj": 5}, "layers_to_transform": [1], "layers_pattern": "layers"},
    "gpt2_tied": {"target_modules": ["c_attn", "mlp.c_proj"], "fan_in_fan_out": True, "use_rslora": True},
}


def base(name: str) -> torch.nn.Module:
    """Return the model of a golden folder."""
    folder = HERE.parent / name
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    left = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert not left.unexpected_keys and {*left.missing_keys} <= {"lm_head.weight"}, left
    return model.eval()


def main() -> None:
    for name, more in MADE.items():
        torch.manual_seed(0)
        model = get_peft_model(base(name), LoraConfig(r=2, lora_alpha=6, task_type="CAUSAL_LM", **more))
        with torch.no_grad():
            for path, leaf in model.named_parameters():
                if "lora_" in path:
                    leaf.copy_(torch.randn_like(leaf) * 0.3)
        model.save_pretrained(HERE / name)
        (HERE / name / "README.md").unlink(missing_ok=True)
        settings = HERE / name / "adapter_config.json"
        settings.write_text(settings.read_text().replace(str(HERE.parent), ".."))  # where it was made
        again = PeftModel.from_pretrained(base(name), HERE / name).eval()
        ids = torch.from_numpy(np.load(HERE.parent / name / "io.npz")["input_ids"])
        with torch.no_grad():
            np.savez_compressed(HERE / name / "logits.npz", logits=again(input_ids=ids).logits.numpy())


if __name__ == "__main__":
    main()
