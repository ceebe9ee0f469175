"""Checkpoints that are whole or do not exist.

Layout: `checkpoints/<step>/` holds the items params, opt_state and train, and averaged and mixture where there are any,
each written by Orbax, `meta.json`, and `manifest.json` with the size and SHA-256 of every other file. A step is written
as `<step>.partial` and gets its name by one rename, after the manifest is on the disk; so a step without a sound
manifest is damage, never an unfinished save. (Orbax alone has no checksum of array bytes: nearly every flipped bit
loads as a wrong number.)
`best` links to the step with the lowest validation loss. Saving runs in one background thread on a copy of the state.
"""

import concurrent.futures
import contextlib
import logging
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.ground import memory
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.files import sync_folder, write_json
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.store.manifest import FORMAT, MANIFEST, Damaged, hashes, read_meta, steps, verify, without_average

logging.getLogger("absl").setLevel(
    logging.CRITICAL
)  # Orbax logs the tracebacks of its threads; what they say is reported here


def _without_late_threads(unraisable: Any, show: Any = sys.unraisablehook) -> None:
    """Show an error that nobody can catch, but not those of what Orbax leaves behind when a save or a load has failed:
    coroutines that nobody waits for, and a loop that is closed or was never whole. That failure is reported, once."""
    modules = set()
    with contextlib.suppress(MemoryError):
        modules = {frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(unraisable.exc_traceback)}
    if not {module.partition(".")[0] for module in modules} & {"orbax", "asyncio"}:
        show(unraisable)


sys.unraisablehook = _without_late_threads
warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)  # of such a failure, too
logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # tasks of a failed save that nobody waits for any more

Items = dict[str, Any]  # what a checkpoint keeps: a tree of arrays for each name


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: `workdir/checkpoints`; made if missing, unfinished saves in it are removed.
        keep: how many of the newest steps stay, beside the best.
    """

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, keep
        self.failed: str | None = None  # why the last save failed
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._job: concurrent.futures.Future | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        """Best effort: threads of a save that failed may still write, and put back what was just removed; the next
        start removes what is left then."""
        for unfinished in self.folder.glob("*.partial*"):  # Orbax adds a suffix while it writes
            shutil.rmtree(unfinished, ignore_errors=True)

    def steps(self) -> list[int]:
        """Steps on the disk, sound or not, oldest first."""
        return steps(self.folder)

    def save(self, step: int, items: Items, meta: dict[str, Any]) -> None:
        """Begin to save; first waits for the save before. A failure is warned about here or in `poll`, and not
        raised."""
        self.wait()
        copy = jax.tree.map(jnp.copy, items)  # the state itself is donated to the next step
        jax.block_until_ready(copy)
        if jax.process_count() > 1:  # of which one writes: to Orbax arrays are those of all processes
            copy = jax.device_get(copy)
        self._job = self._pool.submit(self._write, step, copy, meta)

    def poll(self) -> None:
        """Take note of a save that has ended; never waits."""
        if self._job is not None and self._job.done():
            self.wait()

    def wait(self) -> bool:
        """Wait for the save under way. Whether the last save succeeded."""
        if self._job is not None:
            job, self._job = self._job, None
            try:
                job.result()
                self.failed = None
            except Exception as error:  # Orbax and TensorStore raise many kinds; the run goes on whatever it was
                self.failed = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                print(
                    f"warning: saving a checkpoint failed, it is tried again at the next one: {self.failed}",
                    file=sys.stderr,
                )
        return self.failed is None

    def close(self) -> None:
        self._pool.shutdown(wait=True)

    def _write(self, step: int, items: Items, meta: dict[str, Any]) -> None:
        import orbax.checkpoint as ocp

        partial, final = self.folder / f"{step}.partial", self.folder / str(step)
        try:
            each = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
            with _checkpointer(items) as checkpointer:
                checkpointer.save(partial.absolute(), args=ocp.args.Composite(**each))
            meta = meta | {"format": FORMAT, "step": step, "tree": _shapes(items)}
            write_json(partial / "meta.json", meta)
            write_json(partial / MANIFEST, {"files": hashes(partial)})
            verify(partial)
            if final.exists():
                shutil.rmtree(final)
            os.rename(partial, final)
            sync_folder(self.folder)
        except BaseException:
            self._remove_unfinished()
            raise
        self._link_best()
        self._prune(step)

    def _link_best(self) -> None:
        losses = {}
        for step in self.steps():
            try:
                loss = read_meta(self.folder / str(step)).get("val_loss")
            except Damaged:
                continue
            if loss is not None:  # saved on a signal, between two evaluations, or not finite
                losses[step] = loss
        if not losses:
            return
        best = min(losses, key=lambda step: losses[step])
        link = self.folder / "best.new"
        link.unlink(missing_ok=True)
        link.symlink_to(str(best))
        os.replace(link, self.folder / "best")

    def _prune(self, newest: int) -> None:
        best = os.readlink(self.folder / "best") if (self.folder / "best").is_symlink() else ""
        for step in [step for step in self.steps() if step <= newest][: -self.keep]:
            if str(step) != best:
                gone = self.folder / f"{step}.partial"  # at once, for whoever reads it, and if this process is killed
                os.rename(self.folder / str(step), gone)
                shutil.rmtree(gone)

    def restore(self, target: Items) -> tuple[Items, dict[str, Any]] | None:
        """The newest sound checkpoint as (items, meta), or None if there never was one.

        A damaged step is renamed `<step>.corrupt` with one warning and the next older one is tried. One whose files are
        all as they were written is never set aside: what stops it from loading would stop every other, or passes.

        Args:
            target: shapes, dtypes and shardings to restore to.

        Raises:
            StorageError: there are checkpoints and none is sound, or a sound one does not load.
            UserError: the checkpoint has other parameters than the target; the text names them.
        """
        for step in reversed(self.steps()):
            folder = self.folder / str(step)
            try:
                verify(folder)
                meta = read_meta(folder)
                changed = tree_differences(meta["tree"], _shapes(target))
                if changed:
                    raise UserError(f"{folder}: does not fit this config: {'; '.join(changed)}")
                return _load(folder, target), meta
            except Damaged as damage:
                corrupt = folder.with_name(f"{step}.corrupt")
                shutil.rmtree(corrupt, ignore_errors=True)
                os.rename(folder, corrupt)
                print(f"warning: checkpoint {step} is damaged ({damage}); set aside as {corrupt.name}", file=sys.stderr)
        if any(self.folder.glob("*.corrupt")):
            raise StorageError(
                f"{self.folder}: every checkpoint is damaged; put a sound copy back, "
                "or train again in another --workdir"
            )
        return None


def _checkpointer(names: Iterable[str]) -> Any:
    """Return Orbax's writer and reader for this process alone: of several that train together one writes."""
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.Checkpointer(ocp.CompositeCheckpointHandler())
    here = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix="own"
    )
    each: Any = {name: ocp.StandardCheckpointHandler(multiprocessing_options=alone) for name in names}
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone), **each
    )
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _shapes(items: Items) -> dict[str, str]:
    return {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in paths(items).items()}


def tree_differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Return what differs between two {path: "dtype[shape]"}, at most eight entries and a count of the rest."""
    rows = [
        f"{k}: {old.get(k) or 'absent'} -> {new.get(k) or 'absent'}"
        for k in sorted({*old, *new})
        if old.get(k) != new.get(k)
    ]
    return rows[:8] + ([f"and {len(rows) - 8} more"] if len(rows) > 8 else [])


def _load(folder: Path, wanted: Items) -> Items:
    import orbax.checkpoint as ocp

    try:
        args = ocp.args.Composite(**{name: ocp.args.StandardRestore(tree) for name, tree in wanted.items()})
        with _checkpointer(wanted) as checkpointer:
            items = checkpointer.restore(folder.absolute(), args=args)
    except Exception as error:
        raise _unreadable(folder, error) from error
    got = {name: items[name] for name in wanted}
    for (path, leaf), want in zip(paths(got).items(), jax.tree.leaves(wanted), strict=True):
        if leaf.dtype != want.dtype:
            raise StorageError(f"{folder}: {path} came back as {leaf.dtype}, not {want.dtype}")
    return got


def _unreadable(folder: Path, error: Exception) -> StorageError:
    """The hashes are right, so it is memory, a limit of the system, or another version of Orbax: no damage."""
    first = str(error).splitlines()[0] if str(error) else ""
    if memory.ran_out(error) or memory.SHORT.search(str(error)):
        return StorageError(f"out of memory while {folder} is read: {first or type(error).__name__}; raise the limit")
    return StorageError(f"{folder}: its files are sound, but it does not load: {type(error).__name__}: {first}")


def load_params(folder: Path, target: Any, averaged: bool = False) -> Any:
    """The parameters alone of one checkpoint folder, verified; with `averaged`, the average of the weights.

    Raises:
        StorageError: it is damaged.
        UserError: it has other parameters than the target, or no average.
    """
    import orbax.checkpoint as ocp

    item = "averaged" if averaged else "params"
    try:
        verify(folder)
        shapes = {p: s for p, s in read_meta(folder)["tree"].items() if p.startswith(f"{item}/")}
        if averaged and not shapes:
            raise without_average(folder)
        wanted = {f"{item}/{path}": f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in paths(target).items()}
        changed = tree_differences(shapes, wanted)
        if changed:
            raise UserError(f"{folder}: does not fit the workdir's config: {'; '.join(changed)}")
        with memory.returned(), _checkpointer([item]) as checkpointer:
            args = ocp.args.Composite(**{item: ocp.args.StandardRestore(target)})
            return checkpointer.restore(folder.absolute(), args=args)[item]
    except Damaged as damage:
        raise StorageError(f"{folder}: damaged: {damage}") from damage
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(folder, error) from error
