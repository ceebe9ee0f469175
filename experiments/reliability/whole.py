"""Run every count of this folder, in full or a share of it.

Command:   python experiments/reliability/whole.py [--share=1]
Hardware:  any; hours on two idle cores, the fuzzer aside. Stopped, the same command goes on.

The fuzzer runs where atheris is installed (see fuzz.py). Each script writes what it found to results/NAME, with the
hardware, and ends with 1 where something is not as promised; so does this one.
"""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# The count of each script, and its flag; None of one that counts what there is.
COUNTS = {
    "guards": None,
    "edits": ("edits", 500),
    "kills": ("kills", 100),
    "flips": ("flips", 600),
    "load": ("minutes", 10),
    "endurance": ("steps", 20_000),
    "fuzz": ("minutes", 3),
}


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--share", type=float, default=1.0, help="of each count")
    share, failed = flags.parse_args().share, []
    for name, how in COUNTS.items():
        if name == "fuzz" and importlib.util.find_spec("atheris") is None:
            print("fuzz: atheris is not installed; skipped")
            continue
        call = [sys.executable, str(HERE / f"{name}.py"), f"--out={HERE / 'results' / name}"]
        if how:
            flag, count = how
            call.append(f"--{flag}={count * share if flag == 'minutes' else max(1, round(count * share)):g}")
        print(*call[1:], flush=True)
        if subprocess.run(call).returncode:
            failed.append(name)
    print(f"not as promised: {', '.join(failed)}" if failed else "all as promised")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
