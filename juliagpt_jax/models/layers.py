"""What the parts of `decoder.py` are made of. The norms, the rotary embedding and the dense Linear are the baseline's
own."""

from juliagpt_jax.models.gpt import Linear, RMSNorm, attend, rotary, split_heads

__all__ = ["LINEARS", "Linear", "RMSNorm", "attend", "rotary", "split_heads"]

# A Linear maps (..., D) to (..., features): `LINEARS[name](features, gain)`.
LINEARS = {"dense": Linear}
