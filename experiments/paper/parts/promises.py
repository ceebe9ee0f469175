"""What the code promises of damage and kills, and how often it was provoked."""

from typing import Any

from measures import File, Holds, Results, Statistic

KILLS = File("reliability/results/kills/results.json")
EDITS = File("reliability/results/edits/results.json")
LOAD = File("reliability/results/load/results.json")
FLIPS = File("reliability/results/flips/results.json")


def rows(results: Results, file: File) -> list[dict[str, Any]]:
    """What a script did, one thing a row."""
    return list(file.pick(results, {})[0]["rows"].values())


def silent(results: Results, how: str) -> list[int]:
    """Flipped bits that were read in silence as something else, by kind of file."""
    return [kind[how].get("SILENT", 0) for kind in FLIPS.pick(results, {})[0]["kinds"].values()]


NUMBERS: dict[str, Statistic] = {
    "KillsDone": lambda results: str(len(rows(results, KILLS))),
    "EditsFormats": lambda results: str(len(rows(results, EDITS))),
    "EditsDone": lambda results: f"{sum(row['edits'] for row in rows(results, EDITS)):,}",
    "LoadGood": LOAD.value({}, "rows.load.good, right", ",d"),
    "FlipsKinds": lambda results: str(len(silent(results, "checked"))),
    "FlipsEach": FLIPS.value({}, "flips"),
    "FlipsSilent": lambda results: str(max(silent(results, "hashes off"))),
}

HOLDS: Holds = {
    "KillsIdentical": (
        "every run that was killed and started again ended with the same bits",
        lambda results: all(row["identical"] for row in rows(results, KILLS)),
    ),
    "EditsRefused": (
        "no edited file ended in a traceback, a hang or a wrong success",
        lambda results: not any(row["bad"] for row in rows(results, EDITS)),
    ),
    "LoadSound": (
        "every good client of the server got its own text",
        lambda results: all(row["sound"] and not row["wrong"] for row in rows(results, LOAD)),
    ),
    "FlipsSeen": (
        "no flipped bit was read in silence, and with the hashes off some were",
        lambda results: not any(silent(results, "checked")) and any(silent(results, "hashes off")),
    ),
}
