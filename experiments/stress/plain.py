"""Texts as other people have them, each with its truth: which words are the author's, and which are not.

A text is made of parts in their order; `Maker.keep` writes a part that must reach the corpus, `Maker.junk` one that must
not, `Maker.raw` signs that are neither (numbers in a margin, markup). The prose is made of a seed, what stands around it
is written by hand.
"""

import random
import textwrap

_KINDS = (
    "old quiet narrow patient heavy clever bitter golden simple broken gentle early silver hidden modest restless"
).split()
_THINGS = (
    "river teacher garden window question harbour lantern winter letter village mountain carpenter orchard journey "
    "captain stranger kettle meadow morning library shadow bridge merchant soldier measure argument circle sailor "
    "doctor"
).split()
_DOES = (
    "follows remembers carries measures questions repairs watches praises crosses forgets describes answers guards"
).split()
_NAMES = "Anna Bertram Clara Dmitri Edith Farouk Greta Hugo".split()


class Maker:
    """One text and its truth."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.text, self.kept, self.dropped = "", "", ""

    def sentence(self) -> str:
        pick = self.rng.choice
        one = lambda: f"the {pick(_KINDS)} {pick(_THINGS)} {pick(_DOES)} a {pick(_KINDS)} {pick(_THINGS)}"
        start = pick(
            [one, lambda: f"{pick(_NAMES)} {pick(_DOES)} the {pick(_THINGS)} of the {pick(_KINDS)} {pick(_THINGS)}"]
        )()
        more = f", {pick(['and', 'but', 'while', 'because', 'although'])} {one()}" if self.rng.random() < 0.6 else ""
        return start[0].upper() + start[1:] + more + "."

    def prose(self, sentences: int = 5, width: int = 70) -> str:
        text = " ".join(self.sentence() for _ in range(sentences))
        return "\n".join(textwrap.wrap(text, width)) if width else text

    def keep(self, text: str, end: str = "\n\n") -> "Maker":
        self.text += text + end
        self.kept += text + "\n"
        return self

    def junk(self, text: str, end: str = "\n\n") -> "Maker":
        self.text += text + end
        self.dropped += text + "\n"
        return self

    def raw(self, text: str) -> "Maker":
        self.text += text
        return self

    def paragraphs(self, count: int, before: str = "") -> "Maker":
        for _ in range(count):
            self.keep(before + self.prose())
        return self


def novel(m: Maker) -> None:
    m.junk("The Lantern Keeper").junk("A Novel").junk("by Jane Q. Example")
    m.junk("Copyright \u00a9 2021 by Jane Q. Example. All rights reserved.\nISBN 978-0-00-000000-2")
    m.junk("No part of this publication may be reproduced without the prior written permission of the publisher.")
    m.keep("For my mother, who kept the lamps")
    for chapter in range(1, 7):
        m.junk(f"Chapter {chapter}").paragraphs(2)
        say = lambda: m.sentence()[:-1].lower()
        m.keep(f"\u201cYou opened the ebook?\u201d she said. \u201c{m.sentence()}\u201d")
        m.keep(f"He read it at www.example.org while {say()}.").keep("\u201cStop!\u201d")
        m.keep(f"Edith proofread the letter while {say()}.").paragraphs(2)
        m.keep(f"C. S. Harrow, who had the house before, says that {say()}.")
        m.keep(f"*Meanwhile,* thought Hugo, *{say()}.*").junk("* * *").paragraphs(1)
        m.keep(f"[Music was playing, and {say()}.]")
    m.keep("The publishers in London: she had forgotten all about them.")


def markdown(m: Maker) -> None:
    m.junk("# Notes on Lanterns")
    for k in range(8):
        m.junk(f"## Part {k + 1} of the notes").paragraphs(1)
        for _ in range(4):
            m.keep("* " + m.prose(2, 0), "\n")
        m.raw("\n")
        for n in range(3):
            m.keep(f"{n + 1}. " + m.prose(2, 0), "\n")
        m.raw("\n").keep("**Important:** " + m.prose(2, 0)).keep("> " + m.prose(2, 0)).keep("- [x] " + m.prose(1, 0))


def forum(m: Maker) -> None:
    for k in range(20):
        m.keep(f"{m.rng.choice(_NAMES)} wrote on 2019-0{k % 9 + 1}-12 at 14:0{k % 10}:", "\n\n")
        m.keep("> " + m.prose(2, 0)).keep(m.prose(3, 0)).keep("lol, " + m.prose(1, 0)).junk("-" * 30)


def chat(m: Maker) -> None:
    for k in range(120):
        m.raw(f"[12:{k % 60:02d}] <{m.rng.choice(_NAMES).lower()}> ").keep(m.prose(1, 0), "\n")


def play(m: Maker) -> None:
    m.junk("THE LANTERN").junk("A Play in Two Acts")
    for act in ("I", "II"):
        m.junk(f"ACT {act}")
        for scene in (1, 2):
            m.junk(f"SCENE {scene}").keep("[A garden. Evening. The captain enters with a lantern.]")
            for k in range(12):
                m.keep(("ANNA", "HUGO", "THE CAPTAIN")[k % 3]).keep(m.prose(2))


def poems(m: Maker) -> None:
    for _ in range(25):
        lines = [
            f"the {m.rng.choice(_KINDS)} {m.rng.choice(_THINGS)} {m.rng.choice(_DOES)} the {m.rng.choice(_THINGS)},"
            for _ in range(4)
        ]
        m.keep("\n".join(lines))


def numbered_verse(m: Maker) -> None:
    n = 0
    for _ in range(25):
        for _ in range(12):
            n += 1
            line = f"The {m.rng.choice(_KINDS)} {m.rng.choice(_THINGS)} {m.rng.choice(_DOES)} the {m.rng.choice(_THINGS)} all night,"
            m.keep(line, f"{' ' * (64 - len(line))}{n}\n" if n % 5 == 0 else "\n")
        m.raw("\n")
    m.dropped += "fifteen twenty thirty forty fifty hundred\n"  # the margin's, read aloud


def judgment(m: Maker) -> None:
    m.keep("In the matter of the harbour lamps, the court gives the following judgment.")
    for k in range(1, 41):
        m.raw(f"[{k}] ").keep(m.prose(3) + f" See also [{max(1, k - 3)}] above: {m.sentence()}")


def statute(m: Maker) -> None:
    for k in range(1, 15):
        m.junk(f"Section {k}. Of the Keeping of Lamps").raw(f"({k}) ").keep(m.prose(3))
        for letter in "abc":
            m.raw(f"({letter}) ").keep(m.prose(1))


def diary(m: Maker) -> None:
    for k in range(1, 25):
        m.keep(f"{k} March. " + m.prose(4)).keep("I. wrote again, and C. answered for all of us that evening.")


def recipes(m: Maker) -> None:
    for _ in range(12):
        m.keep("Take a large pan and some apples for this one.")
        for n in range(1, 6):
            m.raw(f"{n}. ").keep(m.prose(2, 0), "\n")
        m.raw("\n")


def interview(m: Maker) -> None:
    for _ in range(30):
        m.keep("Q. " + m.prose(1, 0)).keep("A. " + m.prose(3, 0))


def scholarly(m: Maker) -> None:
    for k in range(1, 31):
        m.keep(m.prose(3), "").raw(f"[{k}]").raw(" ").keep(m.prose(2))
        m.junk(f"[{k}] Vide Quintilianum apud Ciceronem, ibidem, pagina.")
    m.junk("INDEX").junk("\n".join(f"Vide quintilianum, {k}, {k + 7}" for k in range(20)))


def starred(m: Maker) -> None:
    for k in range(20):
        m.keep(m.prose(3), "").raw("*").raw(" ").keep(m.prose(2))
        m.junk("* Vide Quintilianum apud Ciceronem, ibidem.") if k % 2 else m.junk("* Ibidem apud Ciceronem, pagina.")


def _gutenberg(m: Maker, title: str, start: str, count: int = 30) -> None:
    m.junk(f"The Project Gutenberg EBook of {title}, by A. Nobody\n\nTitle: {title}\n\nAuthor: A. Nobody")
    m.junk(start).junk("Produced by Zzyzx Volunteers and the Online Distributed Proofreading Team").paragraphs(count)


_LICENCE = "\n\n".join(
    [
        "*** START: FULL LICENSE ***",
        "THE FULL PROJECT GUTENBERG LICENSE\nPLEASE READ THIS BEFORE YOU DISTRIBUTE OR USE THIS WORK",
        *["Redistribution is subject to the trademark license, especially commercial redistribution, royalties."] * 3,
    ]
)


def small_print(m: Maker) -> None:
    m.junk("The Project Gutenberg Etext of Lanterns, by A. Nobody\n\nTitle: Lanterns\n\nAuthor: A. Nobody")
    m.junk("******This file should be named lantr10.txt or lantr10.zip******").paragraphs(25)
    m.junk("End of the Project Gutenberg Etext of Lanterns, by A. Nobody")
    m.junk("***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\nWhy is this here? You know: lawyers.")
    m.junk("*END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.12.12.00*END*")


def no_stars(m: Maker) -> None:
    _gutenberg(m, "Lanterns", "*** START OF THIS PROJECT GUTENBERG EBOOK LANTERNS")
    m.junk("*** END OF THIS PROJECT GUTENBERG EBOOK LANTERNS ***").junk(_LICENCE)


def two_books(m: Maker) -> None:
    for title in ("Lanterns", "Kettles"):
        _gutenberg(m, title, f"*** START OF THE PROJECT GUTENBERG EBOOK {title.upper()} ***")
        m.junk(f"*** END OF THE PROJECT GUTENBERG EBOOK {title.upper()} ***").junk(_LICENCE)


def no_end_line(m: Maker) -> None:
    _gutenberg(m, "Lanterns", "*** START OF THE PROJECT GUTENBERG EBOOK LANTERNS ***")
    m.junk(_LICENCE)


def scanned(m: Maker) -> None:
    for k in range(1, 40):
        m.keep(m.prose(3)).raw(
            "The captain keeps an extra\u00ac\nordinary lamp, and of gene\u2010\nrosity a measure, in magni-\nficence.\n\n"
        )
        m.kept += "The captain keeps an extraordinary lamp, and of generosity a measure, in magnificence.\n"
        m.raw(f"{k}\n\n")
    m.dropped += "extra ordinary gene rosity magni ficence\n"


def letters(m: Maker) -> None:
    for _ in range(20):
        m.keep(m.prose(3)).raw(
            "In \u0141\u00f3d\u017a the \u0167all sailor from \u0126amrun reads na\u00efve \u0153uvres of \u00deorsteinn.\n\n"
        )
        m.kept += "In lodz the tall sailor from hamrun reads naive oeuvres of thorsteinn.\n"


def line_is_paragraph(m: Maker) -> None:
    for _ in range(60):
        m.keep(m.prose(5, 0), "\n")


def contents(m: Maker) -> None:
    titles = ["Of the Lamps", "Of the Harbour", "Of the Orchard", "Of the Bridges", "Of the Kettles"]
    m.junk("CONTENTS").junk("\n".join(f"{t} {'.' * 20} {7 * k}" for k, t in enumerate(titles, 1)))
    for title in titles:
        m.junk(title).paragraphs(6)


TEXTS = {
    f.__name__: f
    for f in [
        novel, markdown, forum, chat, play, poems, numbered_verse, judgment, statute, diary, recipes, interview,
        scholarly, starred, small_print, no_stars, two_books, no_end_line, scanned, letters, line_is_paragraph, contents,
    ]
}  # fmt: skip


def make(name: str) -> tuple[bytes, str, str]:
    """Return a text's bytes, what must be kept of it, and what must not."""
    maker = Maker(1_000 + list(TEXTS).index(name))
    TEXTS[name](maker)
    return maker.text.encode(), maker.kept, maker.dropped
