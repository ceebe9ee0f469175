"""The baseline of `models/gpt.py` in PyTorch, with its AdamW step, as a user of PyTorch would write them.

It is what the JAX numbers are held to, so it shares no code with them, only the names of the parameters and what a
config says: steps of warm-up and decay are reckoned by config.py for both. Importing it needs PyTorch: pip install
'juliagpt-jax[torch]'. See `models/gpt.py` for the shape letters.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from juliagpt_jax.ground import config

EPS = 1e-8  # AdamW's, in both libraries
IGNORED = -1  # the target of a token that is not scored


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn the channel pairs (i, i + C/2) of x (B, heads, T, C) by the angles of cos and sin (T, C/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Attention(nn.Module):
    def __init__(self, model: config.Model):
        super().__init__()
        self.heads, self.kv_heads = model.heads, model.kv_heads or model.heads
        inner = model.width // model.heads * self.kv_heads
        self.query = nn.Linear(model.width, model.width, bias=False)
        self.key = nn.Linear(model.width, inner, bias=False)
        self.value = nn.Linear(model.width, inner, bias=False)
        self.out = nn.Linear(model.width, model.width, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        split = lambda y, heads: y.unflatten(-1, (heads, -1)).transpose(1, 2)
        q = rotate(split(self.query(x), self.heads), cos, sin)
        k = rotate(split(self.key(x), self.kv_heads), cos, sin)
        v = split(self.value(x), self.kv_heads)
        grouped = self.kv_heads < self.heads
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        return self.out(y.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    def __init__(self, model: config.Model):
        super().__init__()
        self.gate = nn.Linear(model.width, model.hidden, bias=False)
        self.up = nn.Linear(model.width, model.hidden, bias=False)
        self.down = nn.Linear(model.hidden, model.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, model: config.Model):
        super().__init__()
        self.mixer_norm = nn.RMSNorm(model.width, eps=model.norm_eps)
        self.mixer = Attention(model)
        self.channel_norm = nn.RMSNorm(model.width, eps=model.norm_eps)
        self.channel = SwiGLU(model)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.mixer(self.mixer_norm(x), cos, sin)
        return x + self.channel(self.channel_norm(x))


class GPT(nn.Module):
    """Token ids (B, T) to logits (B, T, V). The initial weights are drawn from `seed`, with the deviations of the JAX
    model and other random numbers."""

    def __init__(self, model: config.Model, vocab: int, seed: int = 0):
        super().__init__()
        self.model = model
        self.embedding = nn.Parameter(torch.empty(vocab, model.width))
        for i in range(model.layers):
            self.add_module(f"block_{i}", Block(model))
        self.norm = nn.RMSNorm(model.width, eps=model.norm_eps)
        self.head = None if model.tie else nn.Parameter(torch.empty(model.width, vocab))
        random = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                fan_in = model.width if name in ("embedding", "head") else weight.shape[1]
                branch = name.endswith(("out.weight", "down.weight"))
                deviation = fan_in**-0.5 * ((2 * model.layers) ** -0.5 if branch else 1)
                nn.init.normal_(weight, std=deviation, generator=random)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding[tokens]
        half = self.model.width // self.model.heads // 2
        frequencies = self.model.rope_base ** (-torch.arange(half, dtype=x.dtype, device=x.device) / half)
        angles = torch.outer(torch.arange(tokens.shape[1], dtype=x.dtype, device=x.device), frequencies)
        cos, sin = angles.cos(), angles.sin()
        for i in range(self.model.layers):
            x = self.get_submodule(f"block_{i}")(x, cos, sin)
        return self.norm(x) @ (self.embedding.T if self.head is None else self.head)


def by_path(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """{path of the JAX tree: a view of the tensor as it lies there}: a kernel is (in, out), torch's (out, in)."""
    found = {}
    for name, tensor in named:
        *parents, last = name.split(".")
        if last == "weight":
            last, tensor = ("scale", tensor) if tensor.ndim == 1 else ("kernel", tensor.T)
        found["/".join([*parents, last])] = tensor
    return found


def load(model: GPT, params: Mapping[str, np.ndarray]) -> None:
    """Take over weights by path; the names must be the same on both sides."""
    own = by_path(model.named_parameters())
    if own.keys() != params.keys():
        raise ValueError(f"different parameters: {sorted(own.keys() ^ params.keys())}")
    with torch.no_grad():
        for path, tensor in own.items():
            tensor.copy_(torch.from_numpy(np.array(params[path])))


def mean_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy in nats, over the targets that are scored."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def learning_rate(settings: config.Config, step: int) -> float:
    """The rate of step 0, 1, ...: linear from lr / warm-up to lr, then the shape that `train.schedule` names; past the
    last step as at the end."""
    train, warmup = settings.train, settings.warmup_steps
    if step < warmup:
        return train.lr * (1 / warmup + (1 - 1 / warmup) * step / warmup)
    left = train.steps - warmup
    done = min(1.0, (step - warmup) / left)
    share = {
        "cosine": (1 + math.cos(math.pi * done)) / 2,
        "linear": 1 - done,
        "trapezoid": min(1.0, (1 - done) * left / config.decay_steps(train)),
        "constant": 1.0,
    }[train.schedule]
    return train.min_lr + (train.lr - train.min_lr) * share


class Trainer:
    """AdamW after clipping by the global norm; weight decay on matrices and the embedding."""

    def __init__(self, settings: config.Config, model: GPT):
        self.settings, self.model = settings, model
        train = settings.train
        weights = list(model.parameters())
        groups = [
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": train.weight_decay},
            {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=train.lr, betas=(train.beta1, train.beta2), eps=EPS)
        self.done = 0

    def step(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """One step on a batch (B, T); the loss before it."""
        loss = mean_loss(self.model(inputs), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.train.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, self.done)
        self.optimizer.step()
        self.done += 1
        return loss.detach()
