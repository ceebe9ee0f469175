"""Markdown: its signs are no text, and nothing that is text goes with them."""

import time

import pytest

from juliagpt_jax.books import markdown, parsers
from juliagpt_jax.books.archives import Budget
from juliagpt_jax.books.pages import HEADING

NOTES = """---
title: "On Rivers"
tags: [water, stone]
---

# On *Rivers*

A river[^1] is **older** than its [bridges](https://example.org/b "a title"), and
`slower` than rain. ![a map](map.png)

A second heading
----------------

- the first stone
- the second stone

1986. That year the river stood still.

> Who said so?

```python
print("no text")
```

```
a verse in a fence
```

    a letter, set in

| name | length |
|---|---|
| Lea | 24 km |

[^1]: A note on rivers.
"""


def test_what_stays_and_what_goes():
    text, ledger, title = markdown.read("notes.md", NOTES)
    blocks = [" ".join(block.split()) for block in text.split("\n\n") if block.strip()]
    assert title == "On Rivers"
    assert blocks == [
        f"{HEADING}On Rivers",
        "A river is older than its bridges, and slower than rain.",
        f"{HEADING}A second heading",
        "the first stone",
        "the second stone",
        "1986. That year the river stood still.",
        "Who said so?",
        "a verse in a fence",
        "a letter, set in",
    ]
    assert {"metadata", "code", "notes", "tables"} == set(ledger.counts)
    assert ledger.samples("code") == ['print("no text")'] and ledger.samples("notes") == ["[^1]: A note on rivers."]


@pytest.mark.parametrize(
    "text, stays",
    [
        ("---\nA line between dashes, as letters begin.\n---\n\nMore.", "A line between dashes"),
        ("One[^x] mark without a note.", "[^x] mark"),
        ("[^x]: a note that nothing marks", "a note that nothing marks"),
        ("Some prose before.\n\n```\nThe fence is never closed, and holds\nthe rest of the book.", "the rest of"),
        ("5 < 6 and 7 > 6, said she; *nobody* replied.", "5 < 6 and 7 > 6, said she; nobody replied."),
        ("<details>A word\n\nin HTML</details>", "in HTML"),
        ("It cost 3 * 4 * 5, or 2_000_000.", "3 * 4 * 5, or 2_000_000."),
        ("#hashtag is no heading", "#hashtag is no heading"),
        ("12) a number in a list", "a number in a list"),
    ],
)
def test_what_only_looks_like_a_sign_stays(text, stays):
    assert stays in " ".join(markdown.read("a.md", text)[0].split())


def test_a_text_that_is_code_for_the_greater_part_keeps_it():
    text, ledger, _ = markdown.read("a.md", "Few words.\n\n```text\n" + "A long letter in a fence.\n" * 100 + "```\n")
    assert text.count("A long letter") == 100 and ledger.spared["code"] == 2_600 and not ledger.counts["code"]


def test_a_title_of_its_own_and_one_of_the_page():
    assert markdown.read("a.md", "---\nauthor: X\n---\n\nText.")[2] == ""
    assert markdown.read("a.md", "Text without metadata.")[2] == ""


@pytest.mark.parametrize(
    "sign", ["[", "*", "_a_ ", "<a ", "`", "> ", "- ", "![", "[^1]", "\\", "&", "|", "***a* ", "[a](", "<!--"]
)
def test_no_sign_stalls_it(sign):
    begun = time.process_time()
    markdown.read("a.md", sign * (60_000 // len(sign)))
    assert time.process_time() - begun < 5


def test_by_its_name_in_an_archive_too(tmp_path):
    (tmp_path / "a.MD").write_text("# A heading\n\nText.")
    (document,) = parsers.read(tmp_path / "a.MD", Budget(10**6, 10**6, 10))
    assert document.text.split() == [f"{HEADING}A", "heading", "Text."]
    (tmp_path / "a.txt").write_text("# A heading\n\nText.")
    (document,) = parsers.read(tmp_path / "a.txt", Budget(10**6, 10**6, 10))
    assert document.text.startswith("# A heading")
