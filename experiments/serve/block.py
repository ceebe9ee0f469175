"""What a short block costs and what it gives: characters a second of the whole batch, and milliseconds between two
places where a request may join, for several blocks and numbers of slots.

python experiments/serve/block.py --workdir=runs/tiny [--seconds=1]
"""

import argparse
import statistics
import time
from pathlib import Path

from juliagpt_jax.ground import config, devices


def main() -> None:
    flags = argparse.ArgumentParser(description="blocks and slots")
    flags.add_argument("--workdir", required=True)
    flags.add_argument("--seconds", type=float, default=1.0, help="for each row of the table")
    flags.add_argument("--blocks", default="1,2,4,8,16,32")
    flags.add_argument("--slots", default="1,4,8,16,32")
    options = flags.parse_args()
    devices.prepare(config.read(Path(options.workdir) / "config.json"))

    import numpy as np

    from juliagpt_jax.inference.generate import Generator
    from juliagpt_jax.inference.sampling import Rule
    from juliagpt_jax.serving.batch import Batch, Row
    from juliagpt_jax.store.workdir import open_run

    run = open_run(Path(options.workdir))
    generator = Generator(run.model, run.params)
    numbers = lambda text: [int(part) for part in text.split(",")]
    cells = [(8, block) for block in numbers(options.blocks)] + [(slots, 8) for slots in numbers(options.slots)]
    print("| slots | block | chars/s | of one row | ms a block | prefill of 32, ms |\n|---|---|---|---|---|---|")
    prompt = np.zeros(32, np.int32)
    row = Row.of(Rule(), prompt, 0, 0)

    def join(batch: Batch) -> None:
        batch.start(0, prompt, row, False)
        write(batch)

    def write(batch: Batch) -> None:
        batch.advance(False, False)

    for slots, block in cells:
        batch = Batch(generator, slots, block)
        for place in range(slots):
            batch.start(place, prompt, row, False)
        seconds = median(write, batch, options.seconds)
        filling = median(join, batch, options.seconds) - seconds
        rate, ms = slots * batch.block / seconds, f"{1e3 * seconds:.2f} | {1e3 * filling:.2f}"
        print(f"| {slots} | {batch.block} | {rate:,.0f} | {rate / slots:,.0f} | {ms} |", flush=True)


def median(call, batch, seconds: float) -> float:
    """Of as many calls as fit into so many seconds, after two."""
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        begun = time.perf_counter()
        call(batch)
        times.append(time.perf_counter() - begun)
    return statistics.median(times[2:])


if __name__ == "__main__":
    main()
