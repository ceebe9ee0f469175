"""Results that are computed before the first step, part by part, and kept in the cache: a run that was stopped goes on
with the part that it was at."""

import sys
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from juliagpt_jax.ground import files, sealed
from juliagpt_jax.ground.devices import cache_folder

Arrays = dict[str, np.ndarray]


def in_parts(
    kind: str,
    known_by: Sequence[str],
    parts: Iterable[str],
    make: Callable[[str], Arrays],
    sound: Callable[[str, Arrays], bool],
) -> list[Arrays]:
    """Return the parts, those of the cache as far as it has them.

    Args:
        kind: of what it is; a folder of the cache.
        known_by: all that it depends on, as texts.
        parts: their names.
        make: a part by its name.
        sound: whether arrays can be the part of a name; where not, it is made anew.
    """
    folder, found = cache_folder() / kind / sealed.digest(list(known_by))[:32], []
    for name in parts:
        path = folder / f"{name}.npz"
        try:
            arrays = files.read_arrays(path)
        except (OSError, ValueError):
            arrays = None
        if arrays is None or not sound(name, arrays):
            arrays = make(name)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                files.write_arrays(path, arrays)
            except OSError as error:  # it saves the next start some time, nothing else
                print(f"note: part {name} of the {kind} is not cached: {error}", file=sys.stderr)
        found.append(arrays)
    return found
