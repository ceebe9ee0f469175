"""Rules that hold between two knobs."""

import itertools
from collections.abc import Iterator

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.whole import Config, cycle_bounds, decay_steps


def check(config: Config) -> None:
    """Raise a UserError that names the key where two values do not go with each other."""
    for good, key, why in (*_of_the_model(config), *_of_training(config)):
        if not good:
            raise UserError(f"config.{key}: {why}")


def _of_the_model(config: Config) -> Iterator[tuple[bool, str, str]]:
    m = config.model
    kv_heads = m.kv_heads or m.heads
    yield (
        m.width % m.heads == 0 or (m.kind == "t5" and m.t5.head_width > 0),
        "model.heads",
        f"{m.heads} heads do not divide model.width={m.width}",
    )
    yield (
        m.positions != "rotary" or m.width // m.heads % 2 == 0,
        "model.heads",
        f"{m.width}/{m.heads} channels a head is odd; rotary needs pairs",
    )
    yield (
        m.heads % kv_heads == 0,
        "model.kv_heads",
        f"{kv_heads} do not divide model.heads={m.heads}",
    )
    yield (
        1 <= m.ffn_mult * m.width + 0.5 < 2**31,
        "model.ffn_mult",
        f"{m.ffn_mult} x width {m.width} is no hidden width",
    )
    yield (
        m.ode.min_steps <= m.ode.steps,
        "model.ode.min_steps",
        f"{m.ode.min_steps} is above ode.steps={m.ode.steps}",
    )
    yield (
        not (m.ode.min_steps and (m.ode.rtol or m.ode.adjoint in ("backsolve", "reversible"))),
        "model.ode.min_steps",
        "a random number of steps goes with ode.rtol=0 and the recursive or direct adjoint",
    )
    yield (
        not (m.ode.rtol and m.ode.solver == "euler"),
        "model.ode.rtol",
        "euler has no error estimate to hold to a tolerance; midpoint and the other solvers have",
    )
    yield (
        not (m.ode.rtol and m.ode.adjoint == "reversible"),
        "model.ode.rtol",
        "the reversible adjoint needs equal steps (ode.rtol=0)",
    )
    yield (
        not (m.scan_layers and m.unet),
        "model.scan_layers",
        "the skips of model.unet read what other layers gave, and a loop over layers keeps none of it",
    )
    yield (
        m.monarch.filter_fast <= m.monarch.filter_slow,
        "model.monarch.filter_fast",
        f"{m.monarch.filter_fast} is above monarch.filter_slow={m.monarch.filter_slow}",
    )
    yield (
        m.kind == "t5" or bool(m.kda.head_width) or m.width % (m.kda.heads or m.heads) == 0,
        "model.kda.heads",
        f"{m.kda.heads} heads do not divide model.width={m.width}; model.kda.head_width says how wide they are",
    )
    yield (
        m.kda.value_heads % (m.kda.heads or m.heads) == 0,
        "model.kda.value_heads",
        f"{m.kda.value_heads} are no multiple of the {m.kda.heads or m.heads} heads of keys",
    )
    yield (
        m.moe.top <= m.moe.experts,
        "model.moe.top",
        f"a token cannot go through {m.moe.top} of model.moe.experts={m.moe.experts}",
    )
    yield (
        not m.has_experts or m.moe.top > 1 or m.moe.experts == 1 or m.moe.gate != "chosen",
        "model.moe.gate",
        "the softmax over one chosen expert is 1, from which a router learns nothing; with top=1 it is all",
    )
    yield (
        m.moe.expert_mult * m.width >= 0.5,
        "model.moe.expert_mult",
        f"{m.moe.expert_mult} x width {m.width} is no hidden width",
    )


def _of_training(config: Config) -> Iterator[tuple[bool, str, str]]:
    m, t = config.model, config.train
    puzzles = config.data.puzzle.kind != "none"
    yield (
        (m.kind == "recursive") == (t.objective == "recursive") == puzzles,
        "model.kind",
        "a recursive model, train.objective=recursive and a data.puzzle.kind go together, as in configs/trm_sudoku6.py",
    )
    yield (
        not (m.kind == "recursive" and t.optimizer == "kfac"),
        "train.optimizer",
        "kfac measures each matrix once a pass, and a recursive model uses it many times",
    )
    yield (
        config.data.task == "none" or not puzzles,
        "data.task",
        "examples or puzzles, not both: data.puzzle.kind=none",
    )
    yield (
        config.data.task == "none" or not t.warmup_tokens,
        "train.warmup_tokens",
        "counts windows of a text, and rows of examples are of another length; train.warmup counts steps",
    )
    yield from _of_t5(config)
    yield (
        "none" not in m.mask.split(),
        "model.mask",
        "none shows a token the ones that it is to predict; causal, window and sinks do not",
    )
    yield from _of_adapters(config)
    yield (
        t.batch_size % (t.accumulate or 1) == 0,
        "train.accumulate",
        f"{t.accumulate} does not divide batch_size={t.batch_size}",
    )
    every = {"eval_every": t.eval_every, "checkpoint_every": t.checkpoint_every, "sample_every": t.sample_every}
    for name, steps in every.items():
        yield (
            steps % t.steps_per_call == 0,
            "train.steps_per_call",
            f"{t.steps_per_call} does not divide train.{name}={steps}, and nothing can be done in the middle of a call",
        )
    yield (
        not (t.optimizer == "kfac" and m.ode.adjoint == "backsolve" and m.has_ode),
        "train.optimizer",
        "kfac needs the gradients of an ODE's steps, which ode.adjoint=backsolve does not compute",
    )
    yield (
        not (t.optimizer == "kfac" and "recursive" in m.depth.split()),
        "train.optimizer",
        "kfac measures each matrix once a pass, and a recursive layer uses it many times",
    )
    yield (
        t.min_lr <= t.lr,
        "train.min_lr",
        f"{t.min_lr} is above train.lr={t.lr}",
    )
    yield (
        bool(t.warmup_tokens) or t.warmup < t.steps,
        "train.warmup",
        f"{t.warmup} is not below train.steps={t.steps}; so short a run does with {t.steps // 10}",
    )
    yield (
        not t.warmup_tokens or config.warmup_steps < t.steps,
        "train.warmup_tokens",
        f"{t.warmup_tokens:,} are {config.warmup_steps:,} steps, not below train.steps={t.steps}",
    )
    yield (
        t.schedule != "trapezoid" or config.warmup_steps + decay_steps(t) <= t.steps,
        "train.decay_share",
        f"{t.decay_share:g} of {t.steps} steps and a warm-up of {config.warmup_steps} are more than all",
    )
    yield (
        not t.stages or t.schedule == "stages",
        "train.stages",
        f"says what train.schedule=stages does, and train.schedule={t.schedule}",
    )
    yield (
        sum(map(bool, (t.ema, t.ema_half_life, t.tail))) < 2,
        "train.tail" if t.tail else "train.ema_half_life",
        "the weights are averaged in one way: all but one of ema, ema_half_life and tail are 0",
    )
    yield (
        t.schedule != "cycles" or _cycles_fit(config),
        "train.cycles",
        f"{t.cycles.count} cycles in {t.cycles.share:g} of {t.steps} steps, after a warm-up of {config.warmup_steps}, "
        "leave a cycle without a step",
    )
    yield (
        t.schedule != "cycles" or t.min_lr <= t.cycles.peak * t.lr,
        "train.cycles.peak",
        f"a cycle begins at {t.cycles.peak * t.lr:g}, below train.min_lr={t.min_lr}",
    )
    yield (
        bool(t.decay_tau) or not t.decay_tau_embed,
        "train.decay_tau_embed",
        "the decay of embedding and head is given in epochs where that of matrices is: with train.decay_tau",
    )
    yield (
        not (t.ternary_from and m.linear != "ternary"),
        "train.ternary_from",
        f"says when model.linear=ternary begins, and model.linear={m.linear}",
    )


def _of_adapters(config: Config) -> Iterator[tuple[bool, str, str]]:
    m, t, rank = config.model, config.train, config.adapter.rank
    yield (
        not rank or t.init != "none",
        "adapter.rank",
        "adapters lie beside weights that are there: train.init names the workdir of a model",
    )
    yield (
        bool(rank) or config.adapter.base == "float",
        "adapter.base",
        f"{config.adapter.base} kernels are frozen, and without adapters (adapter.rank) nothing would be trained",
    )
    yield (
        not rank or m.kind == "decoder",
        "adapter.rank",
        f"adapters are for models of texts, not for model.kind={m.kind}",
    )
    yield (
        not rank or m.linear == "dense",
        "adapter.rank",
        f"adapters lie beside dense kernels, not beside those of model.linear={m.linear}",
    )
    yield (
        not rank or not m.has_ode or m.ode.time not in ("lowrank", "generated"),
        "adapter.rank",
        f"model.ode.time={m.ode.time} changes each weight of a block with time, adapters among them",
    )
    yield (
        not rank or t.optimizer != "kfac",
        "train.optimizer",
        "kfac measures the kernels of Linears, which are frozen below adapters; adamw, adam_atan2, muon and soap take "
        "adapters",
    )
    yield (
        not rank or t.objective != "doremi",
        "train.objective",
        "doremi weighs domains for a model that trains as a whole; without adapter.rank",
    )
    yield (
        not config.adapter.dropout or not rank or not m.has_experts,
        "adapter.dropout",
        "experts are computed without random numbers; 0 goes with model.channel=moe",
    )


def _of_t5(config: Config) -> Iterator[tuple[bool, str, str]]:
    t = config.train
    if config.model.kind != "t5":
        return
    own, says = config.data.examples, "a T5 reads a prompt and writes its answer"
    yield t.objective == "next_token", "train.objective", f"{t.objective} is of models of one text; {says}: next_token"
    yield t.optimizer != "kfac", "train.optimizer", f"kfac has one text a row, and {says}"
    yield t.precision != "f16", "train.precision", "f16: the activations of a T5 overflow it; bf16 and f32 hold them"
    yield not t.remat, "train.remat", "a T5 keeps all activations of its layers"
    yield not t.ngram.weight, "train.ngram.weight", f"n-grams are of one text, and {says}"
    yield not own.pack, "data.examples.pack", f"{says}: there is one a row"
    yield not own.chat, "data.examples.chat", f"{says}, and holds no conversation"


def _cycles_fit(config: Config) -> bool:
    bounds = cycle_bounds(config.train)
    return bounds[0] >= config.warmup_steps and all(a < b for a, b in itertools.pairwise(bounds))
