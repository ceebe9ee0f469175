"""Files to raw text: every kind of file, and every file that must not be read."""

import gzip
import io
import lzma
import stat
import tarfile
import tracemalloc
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juliagpt_jax.books.archives import Budget
from juliagpt_jax.books.pages import HEADING
from juliagpt_jax.books.parsers import parse, read
from juliagpt_jax.ground.errors import UserError

CONTAINER = '<?xml version="1.0"?><container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
PACKAGE = """<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>On Lamps</dc:title>
<dc:creator>A. Writer</dc:creator></metadata><manifest><item id="two" href="b%20b.xhtml"/>
<item id="one" href="a.xhtml"/>
<item id="toc" href="nav.xhtml" properties="nav"/></manifest>
<spine><itemref idref="toc"/><itemref idref="one"/><itemref idref="two"/></spine></package>"""
PAGES = {
    "META-INF/container.xml": CONTAINER,
    "OEBPS/book.opf": PACKAGE,
    "OEBPS/nav.xhtml": "<html><body><p>Contents of the book</p></body></html>",
    "OEBPS/a.xhtml": "<html><head><title>x</title></head><body><h1>The Lamp</h1><p>A lamp<sup>1</sup> gives\n"
    "light &amp; warmth.</p>"
    "<table><tr><td>1</td></tr></table><p>So they say.</p></body></html>",
    "OEBPS/b b.xhtml": "<html><body><p>The second<br/>page.</p><script>no()</script></body></html>",
}


def zipped(members: dict, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def one(name: str, content: bytes, **more):
    (document,) = parse(name, io.BytesIO(content), Budget(**more.pop("budget", {})), **more)
    return document


@pytest.mark.parametrize(
    "content",
    [
        "A caf\u00e9.\nTwo.\n".encode(),
        b"\xef\xbb\xbf" + "A caf\u00e9.\r\nTwo.\r\n".encode(),
        "A cafe\u0301.\rTwo.\r".encode(),
        "\ufeffA caf\u00e9.\nTwo.\n".encode("utf-16-le"),
    ],
    ids=["plain", "mark and crlf", "decomposed and cr", "utf-16"],
)
def test_encodings(content):
    assert one("a.txt", content).text == "A caf\u00e9.\nTwo.\n"


def test_a_declared_latin_encoding_is_believed():
    header = b"Title: X\nCharacter set encoding: ISO-8859-1\n\n"
    assert one("a.txt", header + b"caf\xe9").text.endswith("caf\u00e9")


def test_fault_15_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 and t\xe9a")
    with pytest.raises(UserError, match=r"a\.txt: byte 3 is not UTF-8") as error:
        read(tmp_path / "a.txt", Budget())
    assert "--errors=replace" in str(error.value)
    (document,) = read(tmp_path / "a.txt", Budget(), "replace")
    assert (document.text, document.replaced) == ("caf\ufffd and t\ufffda", 2)


def test_gzip_and_zip():
    assert one("a.txt.gz", gzip.compress(b"One two.")).text == "One two."
    archive = zipped({"b/two.txt": "Two.", "a/one.txt": "One.", "picture.png": b"\x89"})
    documents = parse("x.zip", io.BytesIO(archive), Budget())
    assert [(d.name, d.text) for d in documents] == [("x.zip!a/one.txt", "One."), ("x.zip!b/two.txt", "Two.")]


def test_an_e_book():
    """Pages in the order of the spine, headings marked, note marks, tables, scripts and navigation left out."""
    document = one("x.epub", zipped(PAGES))
    assert document.facts == {"title": "On Lamps", "author": "A. Writer"}
    blocks = [b.strip(" ") for b in document.text.split("\n\n") if b.strip()]
    assert blocks == [f"{HEADING}The Lamp", "A lamp gives light & warmth.", "So they say.", "The second\npage."]
    assert parse("y.zip", io.BytesIO(zipped({"x.epub": zipped(PAGES)})), Budget())[0].text == document.text


@pytest.mark.parametrize(
    "change, says",
    [
        ({"META-INF/container.xml": None}, "container.xml is missing"),
        ({"META-INF/container.xml": "<container/>"}, "names no package file"),
        ({"OEBPS/a.xhtml": None}, "OEBPS/a.xhtml is missing"),
        ({"OEBPS/book.opf": PACKAGE.replace('idref="one"', 'idref="three"')}, "'three', which is not in it"),
        ({"OEBPS/book.opf": "<package/>"}, "no pages"),
        ({"OEBPS/book.opf": PACKAGE.replace("a.xhtml", "../../etc/passwd")}, "etc/passwd is missing"),
    ],
)
def test_unsound_e_books(change, says):
    members = {k: v for k, v in (PAGES | change).items() if v is not None}
    with pytest.raises(UserError, match=says):
        one("x.epub", zipped(members))


@pytest.mark.parametrize("name", ["../a.txt", "/a.txt", "b/../../a.txt", "C:/a.txt", "..\\a.txt"])
def test_fault_22_paths_that_lead_out(name):
    for kind in ("x.zip", "x.epub"):
        with pytest.raises(UserError, match="leads out"):
            parse(kind, io.BytesIO(zipped({name: "x"} | PAGES)), Budget())


def test_fault_22_a_link_in_an_archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        member = zipfile.ZipInfo("a.txt")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(UserError, match="is a link"):
        parse("x.zip", io.BytesIO(file.getvalue()), Budget())


@pytest.mark.parametrize("kind", ["gz", "zip", "epub"])
def test_fault_22_bombs(kind):
    """60 MB that lie in 60 kB are not unpacked: memory stays near the limit."""
    zeros = b"\0" * (60 << 20)
    content = {
        "gz": lambda: gzip.compress(zeros),
        "zip": lambda: zipped({"a.txt": zeros}),
        "epub": lambda: zipped(PAGES | {"OEBPS/a.xhtml": zeros}),
    }[kind]()
    tracemalloc.start()
    with pytest.raises(UserError, match="more than 1,000,000 bytes once unpacked"):
        parse(f"x.{kind}", io.BytesIO(content), Budget(file_bytes=1_000_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_fault_22_caps_hold_over_all_members():
    members = {f"{i}.txt": "x" * 1_000 for i in range(10)}
    with pytest.raises(UserError, match="max_bytes"):
        parse("x.zip", io.BytesIO(zipped(members)), Budget(total_bytes=5_500))
    with pytest.raises(UserError, match="10 files in it; --max_files"):
        parse("x.zip", io.BytesIO(zipped(members)), Budget(files=9))
    budget = Budget(files=1)
    parse("a.txt", io.BytesIO(b"x"), budget)
    with pytest.raises(UserError, match="one file too many"):
        parse("b.txt", io.BytesIO(b"x"), budget)


@settings(max_examples=150)
@given(
    st.sampled_from(["zip", "epub", "gz", "html"]),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
)
def test_damaged_files_give_one_line(kind, flips, cut):
    """Bytes flipped and the end torn off: text or a UserError, never another exception."""
    content = {
        "zip": zipped({"a.txt": "One. " * 50}),
        "epub": zipped(PAGES),
        "gz": gzip.compress(b"One. " * 50),
        "html": PAGES["OEBPS/a.xhtml"].encode(),
    }[kind]
    damaged = bytearray(content)
    for place, value in flips:
        damaged[place % len(damaged)] = value
    try:
        parse(f"x.{kind}", io.BytesIO(bytes(damaged[: int(len(damaged) * cut) + 1])), Budget())
    except UserError as error:
        assert "\n" not in str(error)


def tarred(members: dict, mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(
    "name, mode", [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.TGZ", "w:gz"), ("x.tar.xz", "w:xz"), ("x.gz", "w:gz")]
)
def test_tar(name, mode):
    content = tarred({"b/two.txt": b"Two.", "a/ONE.TXT": b"One.", "a/.hidden.txt": b"no", "c.png": b"\x89"}, mode)
    assert [d.text for d in parse(name, io.BytesIO(content), Budget())] == ["One.", "Two."]
    with pytest.raises(UserError, match="leads out"):
        parse(name, io.BytesIO(tarred({"../a.txt": b"x"}, mode)), Budget())
    bomb = tarred({"a.png": b"\0" * (30 << 20), "a.txt": b"x"}, mode)  # what is skipped is unpacked too
    with pytest.raises(UserError, match="bytes once unpacked"):
        parse(name, io.BytesIO(bomb), Budget(total_bytes=1_000_000))


def test_a_link_in_a_tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("a.txt")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(UserError, match="is a link"):
        parse("x.tar", io.BytesIO(file.getvalue()), Budget())


def test_a_zip_packed_by_macos():
    """The resource forks in __MACOSX are no texts; what else is not read is said."""
    notes = []
    forks = {"__MACOSX/._book.TXT": b"\0\x05\x16\x07", ".DS_Store": b"\0"}
    archive = zipped({"book.TXT": "One.", "cover.jpg": b"x"} | forks)
    documents = parse("x.zip", io.BytesIO(archive), Budget(), notes=notes)
    assert [d.text for d in documents] == ["One."]
    assert notes == ["x.zip: 1 other files in it are not read: cover.jpg"]


def test_bad_members_are_named_all_at_once():
    archive = zipped({"a.txt": "One.", "b.txt": b"caf\xe9", "c.txt": b"%PDF-1.4 x"})
    with pytest.raises(UserError, match=r"2 of 3 files .*b\.txt: byte 3.*c\.txt: a PDF document"):
        parse("x.zip", io.BytesIO(archive), Budget())
    notes = []
    assert [d.text for d in parse("x.zip", io.BytesIO(archive), Budget(), "skip", notes)] == ["One."]
    assert len(notes) == 2 and all(note.startswith("left out: x.zip!") for note in notes)


def test_a_name_that_is_not_the_utf_8_it_says():
    content = bytearray(zipped({"cafe.txt": "One."}))
    for place in (content.index(b"cafe"), content.rindex(b"cafe")):
        content[place + 3] = 0xE9
    content[content.index(b"PK\x01\x02") + 9] |= 0x08  # the flag for UTF-8
    with pytest.raises(UserError, match="damaged"):
        parse("x.zip", io.BytesIO(bytes(content)), Budget())


@settings(max_examples=150)
@given(
    st.sampled_from(["x.zip", "x.epub", "x.tar.gz", "x.tar", "x.txt.xz"]),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_archives_of_every_kind_give_one_line(name, flips):
    content = {
        "x.zip": zipped({"a.txt": "One. " * 50}, zipfile.ZIP_LZMA),
        "x.epub": zipped(PAGES, zipfile.ZIP_STORED),
        "x.tar.gz": tarred({"a.txt": b"One. " * 50}, "w:gz"),
        "x.tar": tarred({"a.txt": b"One. " * 50}, "w"),
        "x.txt.xz": lzma.compress(b"One. " * 50),
    }[name]
    damaged = bytearray(content)
    for place, value in flips:
        damaged[place % len(damaged)] = value
    try:
        parse(name, io.BytesIO(bytes(damaged)), Budget())
    except UserError as error:
        assert "\n" not in str(error)


def test_a_page_that_an_e_book_names_again_and_again_is_read_once():
    again = PACKAGE.replace('<itemref idref="two"/>', '<itemref idref="two"/>' * 5_000)
    again_and_again = zipped(PAGES | {"OEBPS/book.opf": again})
    assert one("x.epub", again_and_again, budget={"files": 10}).text == one("x.epub", zipped(PAGES)).text


def test_the_pages_of_an_e_book_together_are_bounded():
    size = sum(len(page.encode()) for name, page in PAGES.items() if "nav" not in name)
    assert one("x.epub", zipped(PAGES), budget={"file_bytes": size})
    with pytest.raises(UserError, match=f"more than {size - 1:,} bytes once unpacked"):
        one("x.epub", zipped(PAGES), budget={"file_bytes": size - 1})


def test_an_e_book_in_the_encoding_that_its_pages_declare():
    page = '<?xml version="1.0" encoding="iso-8859-1"?><html><body><p>caf\u00e9</p></body></html>'
    assert "caf\u00e9" in one("x.epub", zipped(PAGES | {"OEBPS/a.xhtml": page.encode("latin-1")})).text


def test_entities_do_not_swell():
    lol = "<!DOCTYPE package [<!ENTITY a 'xxxxxxxxxx'>" + "".join(
        f"<!ENTITY {chr(98 + k)} '{f'&{chr(97 + k)};' * 10}'>" for k in range(9)
    )
    package = f"{lol}]>{PACKAGE.replace('On Lamps', '&j;')}"
    with pytest.raises(UserError, match="not a sound e-book"):
        one("x.epub", zipped(PAGES | {"OEBPS/book.opf": package}))


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read(tmp_path / "a.txt", Budget())
