"""What the parts of `decoder.py` are made of. The norms, the rotary embedding and the dense Linear are the baseline's own."""

from juliagpt_jax.models.gpt import Linear, RMSNorm, attend, rotary

__all__ = ["LINEARS", "Linear", "RMSNorm", "attend", "rotary"]

# A Linear maps (..., D) to (..., features): `LINEARS[name](features, gain)`.
LINEARS = {"dense": Linear}
