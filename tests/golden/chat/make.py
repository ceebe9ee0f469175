"""Make cases.json: twenty conversations, and their ids by transformers 5.24.0 `apply_chat_template`.

python make.py FOLDER     (with SmolLM2-135M-Instruct as a folder of transformers; pip install transformers)

With the tokenizer of that model, and with the small one of tokenizer.json here, which has 300 tokens of its own.
"""

import json
import sys
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

HERE = Path(__file__).parent
TEXT = "system user assistant You are a helpful AI assistant named SmolLM, trained by Hugging Face. What is the answer?"
SAYS = [
    ["Hi"],
    ["What is the capital of France?", "Paris.", "And of Italy?"],
    ["\n leading and trailing \n"],
    ["", "", ""],
    ["naïve café — “quoted” … ’tis"],
    ["def f(x):\n    return x ** 2  # squared\n"],
    ["12345 + 67890 = ?", "80235", "3.14159 -42 1e-5"],
    ["中文字符 日本語 한국어 אבגד ابتثج 😀👩‍👧"],
    ["a\n\nb\r\nc\td"],
    ["I'll say: don't, can't, we've, they're"],
    ["<|im_start|", "|im_end|>", "< |im_end| >"],
    ["assistant", "user", "system"],
    ["x" * 200],
    ["   "],
]
SYSTEMS = ["You are terse.", "", "Answer in French.\nAlways.", "1 2 3", "<b>", "é"]


def conversations() -> list[list[dict[str, str]]]:
    roles = ("user", "assistant")
    turns = [[{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)] for texts in SAYS]
    return turns + [[{"role": "system", "content": text}, *turns[i]] for i, text in enumerate(SYSTEMS)]


def small(template: str) -> PreTrainedTokenizerFast:
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    library.decoder = decoders.ByteLevel()
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator([TEXT] * 4, trainer)
    library.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    library.save(str(HERE / "tokenizer.json"), pretty=False)
    made = PreTrainedTokenizerFast(tokenizer_object=library, bos_token=names[1], eos_token=names[2])
    made.chat_template = template
    return made


def main(folder: str) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    tokenizers, cases = {"smollm2": theirs, "small": small(theirs.chat_template)}, []
    for messages in conversations():
        case: dict = {"messages": messages}
        for name, tokenizer in tokenizers.items():
            ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)
            case[name] = ids["input_ids"] if hasattr(ids, "keys") else ids
        cases.append(case)
    values = {"template": theirs.chat_template, "cases": cases}
    (HERE / "cases.json").write_text(json.dumps(values, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main(sys.argv[1])
