"""The paper from the committed results: numbers.tex, tables and figures, and the PDF. parts/ says what is in them.

python experiments/paper/build.py            # generated/
python experiments/paper/build.py --pdf      # generated/ and paper.pdf, by pdflatex and bibtex
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]
import content  # noqa: E402
import figures  # noqa: E402
from measures import Results  # noqa: E402

from juliagpt_jax.ground.errors import CommandError, UserError  # noqa: E402
from juliagpt_jax.ground.files import write_text  # noqa: E402
from juliagpt_jax.study import tables  # noqa: E402


def tex(text: str) -> str:
    """A plain text as LaTeX: its signs, and a minus before a number."""
    text = re.sub(r"([&%_#$])", r"\\\1", text).replace("±", r"$\pm$")
    return minus(text)


def minus(text: str) -> str:
    """A hyphen before a number as a minus."""
    return re.sub(r"(?<![\w.}])-(?=\d)", "$-$", text)


def numbers(results: Results) -> dict[str, str]:
    """Each macro and its LaTeX.

    Raises:
        UserError: a file, a row or a measure is missing; or the results no longer say what a sentence of the text says.
    """
    there = [pending for pending in content.PENDING.values() if pending.there(results)]
    every = content.HOLDS | {name: own for pending in there for name, own in pending.holds.items()}
    for name, (sentence, holds) in every.items():
        if not holds(results):
            raise UserError(
                f"the paper says that {sentence}, and the results no longer do: see \\Holds{name} in paper.tex"
            )
    statistics = content.NUMBERS | {name: own for pending in there for name, own in pending.numbers.items()}
    texts = content.STATED | {name: statistic(results) for name, statistic in statistics.items()}
    return {name: tex(text) for name, text in texts.items()} | {f"Holds{name}": "" for name in every}


def build(experiments: Path, out: Path) -> None:
    """Write numbers.tex, the tables and the figures into a folder."""
    results = Results(experiments)
    macros = [rf"\newcommand{{\{name}}}{{{text}}}" for name, text in numbers(results).items()]
    drawn = dict(content.TABLES)
    for name, pending in content.PENDING.items():
        measured = pending.there(results)
        macros.append(rf"\newcommand{{\measured{name}}}[2]{{#{1 if measured else 2}}}")
        drawn |= pending.tables if measured else {}
    made = {"numbers": "% Made by build.py from the results; not to be edited.\n" + "\n".join(macros) + "\n"}
    made |= {f"table_{name}": minus(tables.latex(table(results))) for name, table in drawn.items()}
    out.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        write_text(out / f"{name}.tex", text)
    for name, draw in content.FIGURES.items():
        # without dates in it, so that the same results make the same file
        draw(results).savefig(out / f"{name}.pdf", metadata={"CreationDate": None})
    figures.close()


def pdf(source: Path, generated: Path, out: Path) -> str:
    """Make the PDF at `out` from paper.tex and references.bib of a folder and what `build` wrote. Returns LaTeX's log.

    Raises:
        UserError: there is no TeX, or it fails.
    """
    if not all(map(shutil.which, ("pdflatex", "bibtex"))):
        raise UserError("--pdf needs pdflatex and bibtex: apt install texlive-latex-extra lmodern")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("paper.tex", "references.bib"):
            shutil.copy(source / name, folder)
        shutil.copytree(generated, Path(folder) / "generated")
        latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
        for command in (latex, ["bibtex", "paper"], latex, latex):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
            if done.returncode:
                lines = done.stdout.splitlines()
                wrong = next((i for i, line in enumerate(lines) if line.startswith("!")), -1)
                raise UserError(
                    f"{command[0]} fails: {' '.join(lines[wrong : wrong + 3] if wrong >= 0 else lines[-3:])}"
                )
        shutil.copy(Path(folder) / "paper.pdf", out)
        return (Path(folder) / "paper.log").read_text(encoding="utf-8", errors="replace")


def main(arguments: list[str] | None = None) -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--experiments", type=Path, default=ROOT / "experiments", help="the folder of the results")
    flags.add_argument("--out", type=Path, default=HERE / "generated", help="where numbers, tables and figures go")
    flags.add_argument("--pdf", action="store_true", help="make paper.pdf beside that folder, too")
    options = flags.parse_args(arguments)
    try:
        build(options.experiments, options.out)
        if options.pdf:
            pdf(HERE, options.out, options.out.parent / "paper.pdf")
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
