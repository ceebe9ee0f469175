"""Limits of this machine, measured on the spot, that speeds are reported against."""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp


def best_time(call: Callable[[], object], seconds: float) -> float:
    """The shortest time of a call in about `seconds` of repeating it (at least 3), after one to compile. Noise only
    adds."""
    jax.block_until_ready(call())
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        begun = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begun)
    return min(times)


def matmul_flops(size: int = 2048, dtype: str = "float32", seconds: float = 1.0) -> float:
    """FLOP/s of a square matrix product on one device (all cores of a CPU); of int8 operations, summed as int32."""
    a = jnp.ones((size, size), dtype)
    product = jax.jit(lambda x: jnp.matmul(x, x, preferred_element_type=jnp.int32 if dtype == "int8" else None))
    return 2 * size**3 / best_time(functools.partial(product, a), seconds)


def read_bytes(mebibytes: int = 512, seconds: float = 1.0) -> float:
    """Bytes/s of reading an array that no cache holds: a matrix-vector product, as in decoding a batch of one."""
    rows = mebibytes * 2**20 // 4 // 4096
    matrix, vector = jnp.ones((rows, 4096), jnp.float32), jnp.ones(4096, jnp.float32)
    product = jax.jit(lambda m, v: m @ v)
    return matrix.nbytes / best_time(functools.partial(product, matrix, vector), seconds)
