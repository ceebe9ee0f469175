"""Files that hold text, told from those that do not, whatever their names say."""

import codecs
import gzip
import io
import re
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juliagpt_jax.ground import texts
from juliagpt_jax.ground.errors import UserError

TEXT = "A caf\u00e9 on the na\u00efve river.\nTwo.\n"


@pytest.mark.parametrize(
    "content, encoding",
    [
        (TEXT.encode(), "utf-8"),
        (codecs.BOM_UTF8 + TEXT.encode(), "utf-8"),
        (TEXT.replace("\n", "\r\n").encode(), "utf-8"),
        (TEXT.replace("\n", "\r").encode(), "utf-8"),
        (TEXT.encode("utf-16"), "utf-16-le"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "utf-16-be"),
        (TEXT.encode("utf-16-le"), "utf-16-le"),
        (TEXT.encode("utf-16-be"), "utf-16-be"),
        (TEXT.encode("utf-32"), "utf-32-le"),
    ],
)
def test_encodings_that_a_file_tells(content, encoding):
    assert texts.decode("a.txt", content) == texts.Decoded(TEXT, 0, encoding)


@pytest.mark.parametrize(
    "declared, encoding",
    [
        ("<meta charset=iso-8859-1>", "latin-1"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">', "cp1251"),
        ('<?xml version="1.0" encoding="ISO-8859-15"?>', "iso8859-15"),
        ("Character set encoding: ISO-Latin-1\n", "latin-1"),
        ("Character set encoding: ASCII\n", "cp1252"),
    ],
)
def test_encodings_that_a_text_declares(declared, encoding):
    word = "\u0434\u043e\u043c" if encoding == "cp1251" else "na\u00efve"
    decoded = texts.decode("a.html", f"{declared} {word}".encode(encoding))
    assert decoded.text.endswith(word) and decoded.replaced == 0


@given(
    content=st.one_of(
        st.binary(max_size=40),
        st.text("a\r\n\ufeff\u00e9\U0001f600\0", max_size=30).map(str.encode),
        st.text("ab\r\n", min_size=5, max_size=30).map(lambda text: text.encode("utf-16")),
    ),
    size=st.integers(8, 20),
)
def test_blocks_are_the_whole(content, size, tmp_path_factory):
    """However a file is cut, it has the characters that it has at once, and is refused in the same words."""
    file = tmp_path_factory.getbasetemp() / "blocks.txt"
    file.write_bytes(content)
    for errors in ("strict", "replace"):
        try:
            whole = texts.decode(str(file), content, errors).text
        except UserError as error:
            with pytest.raises(UserError, match=re.escape(str(error))):
                list(texts.blocks(file, errors, size=size))
        else:
            assert "".join(texts.blocks(file, errors, size=size)) == whole


def test_blocks_are_small(tmp_path):
    (tmp_path / "a.txt").write_text("words\r\n" * 1000)
    found = list(texts.blocks(tmp_path / "a.txt", size=64))
    assert max(map(len, found)) <= 65 and "".join(found) == "words\n" * 1000
    with pytest.raises(UserError, match=r"b\.txt: No such file"):
        list(texts.blocks(tmp_path / "b.txt"))


def test_utf_8_wins_over_what_a_page_declares():
    assert "caf\u00e9" in texts.decode("a.html", f"<meta charset=iso-8859-1>{TEXT}".encode()).text


@pytest.mark.parametrize("declared", ["<meta charset=klingon>", "<meta charset=base64>", "<meta charset=utf-8>"])
def test_an_encoding_that_is_none_is_not_believed(declared):
    with pytest.raises(UserError, match=r"byte \d+ is not UTF-8"):
        texts.decode("a.html", declared.encode() + b"caf\xe9")


def test_fault_15_bytes_of_another_encoding():
    content = codecs.BOM_UTF8 + b"two\r\nlines caf\xe9 \xef\xbf\xbd and"
    with pytest.raises(UserError) as error:
        texts.decode("a.txt", content, flag="--config.data.errors")
    assert "a.txt: byte 17 is not UTF-8" in str(error.value) and "Windows-1252" in str(error.value)
    assert "--config.data.errors=replace" in str(error.value)
    decoded = texts.decode("a.txt", content, "replace")
    assert (decoded.text, decoded.replaced) == ("two\nlines caf\ufffd \ufffd and", 1)


def zipped(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "application/epub+zip" if name == "mimetype" else "x")
    return file.getvalue()


DOCUMENTS = {
    "PDF": b"%PDF-1.4\n1 0 obj << /Type /Font >> endobj",
    "PDF ": b"\n\xef\xbb\xbf%PDF-1.4\n1 0 obj",
    "RTF": b"{\\rtf1\\ansi The quiet river\\par}",
    "Microsoft Office": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 64,
    ".docx": zipped("word/document.xml"),
    "EPUB": zipped("mimetype"),
    "zip": zipped("a.txt"),
    "gzip": gzip.compress(b"text"),
    "PNG": b"\x89PNG\r\n\x1a\n",
    "Kindle": b"book".ljust(60, b"\0") + b"BOOKMOBI",
    "AppleDouble": b"\0\x05\x16\x07\0\x02\0\0Mac OS X",
    "tar": b"a.txt".ljust(257, b"\0") + b"ustar\x0000",
    "binary data": bytes(range(256)) * 40,
}


@pytest.mark.parametrize("errors", ["strict", "replace"])
@pytest.mark.parametrize("what", DOCUMENTS)
def test_documents_of_another_kind_are_named_and_never_read(what, errors):
    """errors=replace is not proposed: it would make text of the bytes."""
    with pytest.raises(UserError) as error:
        texts.decode("a.txt", DOCUMENTS[what], errors)
    assert what.strip() in str(error.value) and "=replace" not in str(error.value) and "\n" not in str(error.value)


def test_odd_characters_are_text():
    odd = "\0 \t \u2028 \x85 \x1c \U0001f468\u200d\U0001f469 \x7f \u202e %PDF and {\\rtf are words here"
    assert texts.decode("a.txt", odd.encode()).text == odd


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(["strict", "replace"]))
def test_any_bytes_give_text_or_one_line(content, errors):
    try:
        assert isinstance(texts.decode("a.txt", content, errors).text, str)
    except UserError as error:
        assert "\n" not in str(error)


@settings(max_examples=100)
@given(st.text(max_size=100))
def test_every_text_in_utf_8_comes_back(text):
    content = text.encode("utf-8", "ignore")
    expected = content.decode().replace("\r\n", "\n").removeprefix("\ufeff")
    if not texts.kind(content) and "\0" not in text and "\r" not in expected:
        assert texts.decode("a.txt", content).text == expected


def test_the_files_of_a_folder(tmp_path):
    names = ["b.txt", "A.TXT", "notes.md", ".draft.txt", "._b.txt", "in/c.Txt", "__MACOSX/d.txt", ".git/e.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    show = lambda files: [f.relative_to(tmp_path).as_posix() for f in files]
    assert [show(found) for found in texts.listed(tmp_path, [".txt"], deep=True)] == [
        ["A.TXT", "b.txt", "in/c.Txt"],
        ["notes.md"],
    ]
    taken, others = texts.listed(tmp_path, [".txt"], deep=False)
    assert show(taken) == ["A.TXT", "b.txt"]
    assert texts.not_read(tmp_path, others) == ["1 other files of the folder are not read: notes.md"]
    assert texts.not_read(tmp_path, []) == []


def test_home_is_found_behind_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert texts.path("~/x") == tmp_path / "x" and str(texts.path("a~b")) == "a~b"


def test_all_bad_files_are_named_at_once():
    error = texts.refused([f"{name}.txt: byte 3 is not UTF-8" for name in "abc"], 7, "leave them out")
    assert str(error).startswith("3 of 7 files cannot be read: a.txt") and "c.txt" in str(error)
    assert str(error).endswith("; leave them out")
    assert "and 80 more" in str(texts.refused(["x"] * 100, 100))
