"""Training, `tokenize` and `prepare` refuse the same lines of a .jsonl file in the same words."""

import pytest

from juliagpt_jax.books import documents
from juliagpt_jax.books.archives import Budget
from juliagpt_jax.data import reading, stream
from juliagpt_jax.ground.errors import UserError

GOOD = b'{"text": "a good line", "n": 1}'


@pytest.mark.parametrize(
    "line, says",
    [
        (b"", "is empty"),
        (b'{"text": "a"', "not JSON: Expecting ',' delimiter"),
        (b"[1]", "not a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"text": "caf\xe9"}', "byte 13 is not UTF-8 (invalid continuation byte)"),
        (b'{"text": "a\0"}', "byte 11 is NUL"),
        (b'{"text": "a", "text": "b"}', '"text" stands in it twice'),
        (b'{"text": "\\ud800", "n": 1}', '"text" holds half of a surrogate pair, which is no character'),
        (b'\xef\xbb\xbf{"text": "a", "n": 1}', "begins with a byte-order mark"),
    ],
)
def test_readers_of_rows_agree(line, says, tiny, tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(GOOD + b"\n" + line + b"\n" + GOOD + b"\n")
    said = []
    for read in (
        lambda: reading.source(tiny(f"data.path={file}").data)[1](),
        lambda: stream.open_source(str(file), "strict"),
        lambda: documents._rows(file, documents.Options(unit="row"), Budget(), []),
    ):
        with pytest.raises(UserError) as error:
            read()
        said.append(str(error.value).partition("a.jsonl:2: ")[2].partition("; --")[0])
    assert says in said[0] and said == [said[0]] * 3


def test_what_a_program_puts_around_rows_is_no_matter_for_prepare(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n" + GOOD + b"\r\n")
    found = documents._rows(file, documents.Options(unit="row"), Budget(), [])
    assert [piece.text for piece, _ in found] == ["a good line"] * 2
