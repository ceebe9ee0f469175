"""The chunks of a work that are for validation: neighbours in passages, spread over the work, by a seed."""

import random


def passages(count: int, val_share: float, passage: int, guard: int, seed: str) -> list[tuple[int, int]]:
    """Return validation passages among `count` chunks, as (begin, end), in order and never touching: one at a random
    place in each of as many equal stretches as are needed. Each has `guard` chunks around it that no other has."""
    wanted = round(count * val_share)
    if count < smallest(val_share, guard) or wanted == 0:
        return []
    number = max(1, round(wanted / passage))
    rng = random.Random(seed)
    result = []
    for k in range(number):
        low, high = count * k // number, count * (k + 1) // number
        size = wanted * (k + 1) // number - wanted * k // number
        room = high - low - 2 * guard
        size = min(size, room)
        if size > 0:
            begin = low + guard + rng.randrange(room - size + 1)
            result.append((begin, begin + size))
    return result


def smallest(val_share: float, guard: int) -> int:
    """Return the chunks of the smallest work that is split: one for validation, its guards, as many for training."""
    return max(round(1 / val_share), 2 * (1 + 2 * guard))
