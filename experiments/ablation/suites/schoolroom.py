"""Every mixer and channel, and the switches beside them, on the embedded corpus at equal FLOPs.

python -m juliagpt_jax.ablate --suite=experiments/ablation/suites/schoolroom.py \
    --out=experiments/ablation/results/schoolroom [--jobs=2]

The budget is that of about 1,000 steps of the baseline, configs/micro.py with four layers, so that hybrids have their
ratio. Words that the tables gain are arms without a change here.
"""

from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.mixers import MIXERS
from juliagpt_jax.study.suite import Arm, Suite

MEASURES = ("active_params", "step_s", "step_memory_bytes", "chars_per_s", "model_bytes")
COMMON = {"model.layers": 4, "model.heads": 4, "train.sample_every": 0, "train.lr": 1e-3, "train.min_lr": 1e-4}
BUDGET = ("flops", 4.6e12)
# What a word needs to be itself: MLPs of two matrices have the parameters of SwiGLU's three.
MORE = {"relu2": {"model.ffn_mult": 6.0}, "gelu": {"model.ffn_mult": 6.0}}
# Keys and values of a quarter of the heads, and hidden channels for the parameters that this saves (see
# experiments/grouped_query).
GROUPED = {"model.kv_heads": 1, "model.ffn_mult": 4.5}


def arms() -> dict[str, Arm]:
    """Return the arms by name: words of the tables first, then hybrids, experts and switches."""
    made = {"baseline": Arm()}
    made |= {word: Arm({"model.mixer": word}) for word in MIXERS if word != "attention"}
    channels = {word: {"model.channel": word} | MORE.get(word, {}) for word in CHANNELS if word != "swiglu"}
    made |= {f"channel: {word}": Arm(changes) for word, changes in channels.items()}
    made |= {f"{word} 3:1": Arm(hybrid(word)) for word in ("kda", "monarch")}
    # As published: order is left to the delta rule.
    for word in ("kda", "gated_deltanet"):
        made[f"{word} 3:1, no positions"] = Arm(hybrid(word) | {"model.positions": "none"})
    made |= {
        "moe, top 1": Arm({"model.channel": "moe", "model.moe.top": 1, "model.moe.gate": "all"} | _widths(4.0)),
        "moe, one shared": Arm({"model.channel": "moe", "model.moe.shared": 1} | _widths(4 / 3)),
        "moe, capacity 1.25": Arm({"model.channel": "moe", "model.moe.capacity": 1.25}),
        "moe, no balance": Arm({"model.channel": "moe", "train.moe.balance": 0.0}),
        "grouped query": Arm(GROUPED),
        "no positions": Arm({"model.positions": "none"}),
        "learned positions": Arm({"model.positions": "learned"}),
        "window of 32": Arm({"model.mask": "window", "model.window": 32}),
        "sink logit": Arm({"model.sink": "logit"}),
        "sink token": Arm({"model.sink": "token"}),
        "value embedding": Arm({"model.value_embedding": "x0"}),
        "head gate": Arm({"model.head_gate": True}),
        "unet": Arm({"model.unet": True}),
        "qk norm": Arm({"model.qk_norm": True}),
    }
    return made


def hybrid(word: str) -> dict[str, str]:
    """Three layers of a mixer to each layer of attention."""
    return {"model.mixer": f"{word} {word} {word} attention"}


def _widths(each: float) -> dict[str, float]:
    """The hidden width of an expert, in widths: all that a token goes through have those of the baseline's channel."""
    return {"model.moe.expert_mult": each}


def get_suite(scale: str) -> Suite:
    return Suite(
        config=f"configs/{scale}.py",
        common=COMMON,
        arms=arms(),
        seeds=(11, 12, 13),
        baseline="baseline",
        budget=BUDGET,
        measures=MEASURES,
    )
