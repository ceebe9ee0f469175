"""Two small books, written for the tests, and the ways in which a publisher wraps one."""

import random

SUBJECTS = "teacher reader judge citizen builder neighbour painter sailor doctor farmer poet king child guest".split()
VERBS = "praises doubts explains remembers measures follows describes forgets defends examines admires repeats".split()
OBJECTS = (
    "nature number order rule story motion house line meaning work river light sound body star law voice city word"
).split()
KINDS = "old new simple hidden common noble distant clear heavy double narrow perfect broken silent first last".split()
ENDS = (
    "in the evening,because it is needed,before he answers,as is the custom,with great patience,when others are asleep,"
    "though nobody asked him to,for the sake of his friends,without a single fault,after many years of thought"
).split(",")


def prose(seed: int, paragraphs: int) -> list[str]:
    """Paragraphs of four to seven sentences, wrapped at about 70 characters."""
    rng = random.Random(seed)
    part = lambda: f"the {rng.choice(KINDS)} {rng.choice(OBJECTS)}"
    clause = lambda: (
        f"the {rng.choice(KINDS)} {rng.choice(SUBJECTS)} {rng.choice(VERBS)} {part()} of {part()} {rng.choice(ENDS)}"
    )
    result = []
    for _ in range(paragraphs):
        text = ""
        for _ in range(rng.randint(4, 7)):
            more = f"; and {rng.randint(2, 99)} times {clause()}" if rng.random() < 0.7 else ""
            text += f"{clause().capitalize()}{more}. "
        lines, line = [], ""
        for word in text.split():
            if len(line) + len(word) > 70:
                lines.append(line)
                line = ""
            line = f"{line} {word}".strip()
        result.append("\n".join([*lines, line]))
    return result


def book(seed: int, paragraphs: int = 30) -> str:
    """Chapters of five paragraphs each."""
    parts = []
    for i, paragraph in enumerate(prose(seed, paragraphs)):
        if i % 5 == 0:
            parts.append(f"CHAPTER {'I II III IV V VI VII VIII IX X XI XII'.split()[i // 5 % 12]}\n\nOF MEASURE")
        parts.append(paragraph)
    return "\n\n".join(parts) + "\n"


HEADERS = {
    "gutenberg": (
        "The Project Gutenberg EBook of On Measure, by Ann Author\n\nThis eBook is for the use of anyone.\n\n"
        "Title: On Measure\n\nAuthor: Ann Author\n\nTranslator: T. Turner\n\nLanguage: English\n\n"
        "*** START OF THIS PROJECT GUTENBERG EBOOK ON MEASURE ***\n\n",
        "\n\nEnd of the Project Gutenberg EBook of On Measure, by Ann Author\n\n"
        "*** END OF THIS PROJECT GUTENBERG EBOOK ON MEASURE ***\n\nUpdated editions will replace the previous one.\n",
    ),
    "tight": (
        "The Project Gutenberg eBook, On Measure, by Ann Author\n\n"
        "Title: On Measure\nAuthor: Ann Author\nTranslator: T. Turner\n\n"
        "***START OF THE PROJECT GUTENBERG EBOOK ON MEASURE;\nAND OTHER PIECES***\n\n",
        "\n\n***END OF THE PROJECT GUTENBERG EBOOK ON MEASURE***\n\n******* This file should be named 1.txt *******\n",
    ),
    "small print": (
        "Project Gutenberg Etext of On Measure\n\nTitle: On Measure\nAuthor: Ann Author\nTranslator: T. Turner\n\n"
        "Please read the small print.\n\n"
        "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n",
        "\n\nEnd of Project Gutenberg's On Measure, by Ann Author\n\nDonations are welcome.\n",
    ),
    "archive": (
        "Provided by The Internet Classics Archive.\nSee bottom for copyright. Available online at\n"
        "    http://classics.mit.edu//A/m.html\n\n"
        "On Measure\nBy Ann Author\n\n\nTranslated by T. Turner\n\n" + "-" * 70 + "\n\n",
        "\n\nTHE END\n\n"
        + "-" * 70
        + "\n\nCopyright statement:\nThe Internet Classics Archive by Daniel C. Stevenson, Web Atomics.\n",
    ),
}


def wrapped(text: str, how: str = "gutenberg") -> str:
    """A text between a publisher's header and footer."""
    before, after = HEADERS[how]
    return before + text + after
