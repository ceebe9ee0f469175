"""A run that learns to solve puzzles: what it does otherwise than one on a text."""

from typing import Any

import jax
import numpy as np

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.data.puzzles.arc import UNKNOWN, Arc
from juliagpt_jax.data.puzzles.puzzles import FIRST, Pairs, Puzzles
from juliagpt_jax.evaluation import puzzles as measured
from juliagpt_jax.ground import devices
from juliagpt_jax.inference import solving
from juliagpt_jax.models import parameters
from juliagpt_jax.objectives.build import build_objective
from juliagpt_jax.objectives.recursive import Offer
from juliagpt_jax.training import metrics
from juliagpt_jax.training.events import Events
from juliagpt_jax.training.loop import Trainer
from juliagpt_jax.training.mesh import batch_sharding, put
from juliagpt_jax.training.state import TrainState


class PuzzleEvents(Events):
    """Solve test puzzles where a text would be scored, and draw one where it would be written."""

    def _prepare(self) -> None:
        self.puzzles: Puzzles = self.corpus  # pyright: ignore[reportAttributeAccessIssue]
        count = len(self.puzzles.test.inputs)
        few = min(count, self.config.train.eval_windows)
        self._few = self.puzzles.test.take(np.arange(few) * count // few)

    def solve(self, params: Any, pairs: Pairs) -> solving.Solved:
        """Solve puzzles with these weights, in as many steps as training has."""
        steps, model = self.config.train.recursive.steps, self.model
        given = pairs.inputs, pairs.ids, steps, pairs.targets
        return solving.solve(model, params, *given, place=self.place)  # pyright: ignore[reportArgumentType]

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Return the loss, the share of right symbols and that of solved puzzles, each after the last step, of some
        test puzzles: of the raw weights and, if there are any, of the averaged ones."""
        kinds = {"val": state.params}
        if state.averaged != ():
            kinds["averaged_val"] = state.averaged
        values = {}
        for name, params in kinds.items():
            found = measured.score(self.solve(params, self._few), self._few)
            values |= {f"{name}_{what}": found[what] for what in ("loss", "symbols", "solved")}
        return values

    def sample(self, state: TrainState) -> str:
        """Draw a test puzzle, and the answer to it."""
        one = self.puzzles.test.take(slice(1))
        answer = self.solve(state.averaged or state.params, one).answers[-1, 0]
        says = self.puzzles.wrong(one.inputs[0], answer) or "solved"
        grids = f"{self.puzzles.draw(one.inputs[0])}\n\n{self.puzzles.draw(answer)}"
        return f"--- a puzzle at step {int(state.step)}\n{grids}\n{says}\n---"

    def _read_off(self, values: dict[str, float]) -> dict[str, float]:
        return {}

    def _now(self, values: dict[str, float]) -> str:
        return (
            f"loss {values['loss']:.3f}, {values['symbols']:.1%} of symbols and {values['solved']:.1%} of puzzles right"
        )


class PuzzleTrainer(Trainer):
    """`Trainer` on puzzles: `corpus` is a `Puzzles`."""

    def _choose(self) -> Any:
        puzzles: Puzzles = self.corpus  # pyright: ignore[reportAssignmentType]
        self.puzzles, self.notes = puzzles, []
        self.objective = build_objective(self.config, self.model)
        self.epoch_steps = len(puzzles.train.inputs) / self.config.train.batch_size

    def _watch(self) -> Events:
        params = self.state.params
        flops = measured.mean_train_flops(self.config, self.model, params)
        return PuzzleEvents(
            self.config, self.model, self.corpus, self.workdir, self.checkpoints, self.mesh, flops, params
        )

    def batch(self, step: int) -> Batch:
        """Return the puzzles that a step offers to its rows, and before how many supervision steps each may not halt:
        all a pure function of seed, step and row."""
        return put(self._offered(step), self._batch_place)

    def batches(self, first: int, count: int) -> Batch:
        each = [self._offered(step) for step in range(first, first + count)]
        together = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
        return put(together, batch_sharding(self.mesh, steps=True))

    def _offered(self, step: int) -> Batch:
        rows, own = self.config.train.batch_size, self.config.train.recursive
        drawn = self.puzzles.offer(self.config.seed, step, rows)
        rng = np.random.default_rng([FIRST + 1, self.config.seed, step])
        waits = rng.random(rows) < own.explore
        least = np.where(waits, rng.integers(2, max(own.steps, 2) + 1, size=rows), 0).astype(np.int32)
        return Batch(drawn.inputs, drawn.targets, extra=Offer(drawn.ids, least))

    def plot(self, report: dict[str, Any]) -> None:
        metrics.plot_solved(self.workdir)

    def _measured(self) -> dict[str, Any]:
        state, events, train = self.state, self.events, self.config.train
        assert isinstance(events, PuzzleEvents)
        events.say(f"reporting: solving {len(self.puzzles.test.inputs):,} test puzzles")
        measure = lambda params: self._score(events, params)
        places = train.batch_size * (self.config.model.context + self.config.model.recursive.slots)
        values: dict[str, Any] = {"workdir": str(self.workdir), "step": train.steps} | measure(state.params)
        if state.averaged != ():
            values["averaged"] = measure(state.averaged)
        return values | {
            "entropy": float("nan"),
            "passages": [],
            "params": parameters.count(state.params),
            "id_params": measured.id_parameters(state.params),
            "flops": events.token_flops * train.steps * places,
            "peak_memory_bytes": devices.peak_memory_bytes(),
            "skipped_steps": int(state.skipped),
            "notes": self.notes,
        }

    def _score(self, events: PuzzleEvents, params: Any) -> dict[str, Any]:
        """Measure weights on all test puzzles; on tasks of ARC also as tasks, with their embeddings and without."""
        test = self.puzzles.test
        solved = events.solve(params, test)
        values = measured.score(solved, test, self.puzzles)
        if isinstance(self.puzzles, Arc):
            blind = events.solve(params, test._replace(ids=np.full_like(test.ids, UNKNOWN)))
            without = {f"{name}_without_ids": share for name, share in measured.of_tasks(self.puzzles, blind).items()}
            values["tasks"] = measured.of_tasks(self.puzzles, solved) | without
        return values
