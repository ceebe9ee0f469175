"""Pages and e-books in the manner of the programs that make them, each with its truth (see plain.py)."""

import html
import io
import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from plain import Maker

_CONTAINER = '<?xml version="1.0"?><container><rootfiles><rootfile full-path="{}"/></rootfiles></container>'


def word(m: Maker) -> bytes:
    """Microsoft Word, "Web Page": Windows-1252, conditional comments, tags with prefixes."""
    m.raw(
        '<html xmlns:o="urn:schemas-microsoft-com:office:office"><head><meta http-equiv=Content-Type '
        'content="text/html; charset=windows-1252"><title>Lanterns</title><!--[if gte mso 9]><xml><o:p>Zzyzx</o:p></xml>'
        "<![endif]--><style>p.MsoNormal {margin:0}</style></head><body lang=EN-GB><div class=WordSection1>"
    )
    for k in range(20):
        m.raw("<h2>").junk(f"Heading Zzyzx{k}", "</h2>") if k % 5 == 0 else None
        m.raw("<p class=MsoNormal><span lang=EN-US>").keep(m.prose(2, 0), " <b>").keep(m.prose(1, 0), "</b>")
        m.raw(
            " The caf\u00e9 in the village is na\u00efve.<a href='#_ftn1' name='_ftnref1'>[1]</a><o:p></o:p></span></p>\n"
        )
        m.kept += "The cafe in the village is naive.\n"
    return (m.text + "</div></body></html>").encode("cp1252")


def pandoc(m: Maker) -> bytes:
    """Markdown by pandoc: sections, footnotes at the end, a table of contents."""
    m.raw('<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/><title>x</title></head><body>')
    m.raw('<nav id="TOC" role="doc-toc"><ul>').junk(
        "<li><a href='#a'>Zzyzxfirst</a></li><li><a href='#b'>Zzyzxsecond</a></li>", "</ul></nav>"
    )
    for k in range(1, 21):
        m.raw(f'<section id="s{k}"><h1>').junk(f"Zzyzxhead{k}", "</h1><p>").keep(m.prose(3, 0), "")
        m.raw(f'<a href="#fn{k}" class="footnote-ref" id="fnref{k}" role="doc-noteref"><sup>{k}</sup></a></p><p>')
        m.keep(m.prose(2, 0), "</p></section>")
    m.raw('<section class="footnotes" role="doc-endnotes"><hr/><ol>')
    for k in range(1, 21):
        m.raw(f'<li id="fn{k}"><p>').junk(
            f"Vide Quintilianum apud Ciceronem zzyzxnote{k}.", f'<a href="#fnref{k}">\u21a9</a></p></li>'
        )
    return (m.text + "</ol></section></body></html>").encode()


def blog(m: Maker) -> bytes:
    """A post of a blog: menus, a sidebar, buttons to share, comments, a footer; </head> and many end tags are missing."""
    m.raw(
        "<!DOCTYPE html><html><head><meta charset=utf-8><title>Lanterns \u2013 My Blog</title><script>var zzyzxjs=1;</script><body>"
    )
    m.raw('<header><nav class="main-navigation"><ul>').junk(
        "".join(f"<li><a href='/{w}'>Zzyzx{w}</a>" for w in ("home", "about", "shop")), "</ul></nav></header>"
    )
    m.raw('<div class="cookie-notice">').junk(
        "We use zzyzxcookies. <a href=/p>Privacy policy</a>", "</div><main><article>"
    )
    for k in range(24):
        m.raw("<p>").keep(m.prose(3, 0), "\n")
        if k % 6 == 5:
            m.raw('<div class="sharing share-buttons">').junk(
                "<a href=x>Zzyzxtweet</a> <a href=y>Zzyzxpin</a>", "</div>"
            )
    m.raw('</article></main><aside class="sidebar"><ul>').junk(
        "".join(f"<li><a href=/{k}>Zzyzxpost {k}</a>" for k in range(9)), "</ul></aside>"
    )
    m.raw("<footer>").junk(
        "\u00a9 2019 My Zzyzxblog. All rights reserved. Powered by Zzyzxpress.", "</footer></body></html>"
    )
    return m.text.encode()


def nineties(m: Maker) -> bytes:
    """A page of 1997: tables for the layout, upper-case tags, nothing closed, two <BR> for a paragraph."""
    m.raw(
        "<HTML><HEAD><TITLE>My Page</TITLE></HEAD><BODY BGCOLOR=#FFFFFF><TABLE WIDTH=600><TR><TD WIDTH=100><FONT SIZE=2>"
    )
    m.junk("".join(f"<A HREF=p{k}.htm>Zzyzx{k}</A><BR>" for k in range(6)), "</FONT><TD><FONT FACE=Arial>")
    for _ in range(25):
        m.keep(m.prose(3, 0), "<BR><BR>\n<FONT SIZE=3>")
    m.raw("</TABLE><TABLE BORDER=1>").junk(
        "".join(f"<TR><TD>Zzyzxcell{k}<TD>{k * 3}<TD>{k * 7}" for k in range(8)), "</TABLE>"
    )
    return m.text.encode()


def gutenberg_html(m: Maker) -> bytes:
    """Project Gutenberg's HTML: numbers of pages and lines, notes, verse in lines, pictures with captions."""
    m.raw('<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html><head><title>Lanterns</title></head><body><pre>')
    m.junk(
        "The Project Gutenberg EBook of Lanterns, by A. Nobody\n\nTitle: Lanterns\n\n*** START OF THIS PROJECT GUTENBERG EBOOK LANTERNS ***",
        "</pre>",
    )
    for k in range(1, 21):
        m.raw(f"<h2>Chapter {k}</h2><p>").keep(m.prose(3, 0), "").raw(
            f'<a name="FNanchor_{k}"></a><a href="#Footnote_{k}" class="fnanchor">[{k}]</a>'
        )
        m.raw(f'<span class="pagenum"><a name="Page_{k}">[Pg {k}]</a></span> ').keep(m.prose(1, 0), "</p>")
        m.raw('<div class="poem"><div class="stanza">')
        for n in range(1, 6):
            m.raw('<span class="i0">').keep(
                m.prose(1, 0), f'<span class="linenum">{5 * k}</span><br/></span>' if n == 5 else "<br/></span>"
            )
        m.raw('</div></div><div class="figcenter"><img src="x.png"/><figcaption>').junk(
            f"Zzyzxpicture {k}", "</figcaption></div>"
        )
        m.raw(f'<div class="footnote"><p><a name="Footnote_{k}"></a>').junk(
            f"[{k}] Vide Quintilianum zzyzxnote.", "</p></div>"
        )
    m.raw("<pre>").junk(
        "*** END OF THIS PROJECT GUTENBERG EBOOK LANTERNS ***\n\nThe zzyzxlicence of it.", "</pre></body></html>"
    )
    return m.text.encode()


def wiki(m: Maker) -> bytes:
    """A page of MediaWiki: references, edit links, a box of facts, a table of contents."""
    m.raw(
        '<!DOCTYPE html><html><head><meta charset="UTF-8"/><title>Lantern</title></head><body><div id="content"><table class="infobox">'
    )
    m.junk("".join(f"<tr><th>Zzyzxfact{k}</th><td>{k}</td></tr>" for k in range(6)), "</table>")
    m.raw('<div id="toc" class="toc" role="navigation"><ul>').junk(
        "".join(f"<li><a href='#{k}'>{k} Zzyzxtoc</a></li>" for k in range(6)), "</ul></div>"
    )
    for k in range(1, 21):
        m.raw("<p>").keep(m.prose(4, 0), "").raw(
            f'<sup id="cite_ref-{k}" class="reference"><a href="#cite_note-{k}">[{k}]</a></sup></p>'
        )
    m.raw('<ol class="references">').junk(
        "".join(f"<li>Zzyzxjournal {k}, p. {k}</li>" for k in range(20)), "</ol></div></body></html>"
    )
    return m.text.encode()


def _epub(
    m: Maker, folder: str, pages: list[str], extra: dict[str, str] | None = None, spine: list[int] | None = None
) -> bytes:
    items = "".join(
        f'<item id="p{k}" href="p{k}.xhtml" media-type="application/xhtml+xml"/>' for k in range(len(pages))
    )
    order = "".join(f'<itemref idref="p{k}"/>' for k in (spine or range(len(pages))))
    package = (
        '<?xml version="1.0" encoding="utf-8"?><package xmlns="http://www.idpf.org/2007/opf"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Lanterns</dc:title><dc:creator>A. Nobody</dc:creator></metadata>'
        f"<manifest>{items}</manifest><spine>{order}</spine></package>"
    )
    members = {
        "META-INF/container.xml": _CONTAINER.format(f"{folder}book.opf"),
        f"{folder}book.opf": package,
        **(extra or {}),
    }
    members |= {f"{folder}p{k}.xhtml": page for k, page in enumerate(pages)}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip")
        for name, content in members.items():
            archive.writestr(name, content.encode())
    return file.getvalue()


def _page(body: str, head: str = "<title>x</title>") -> str:
    return f'<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><head>{head}</head><body>{body}</body></html>'


def _chapters(m: Maker, count: int, tag: str) -> list[str]:
    pages = []
    for k in range(1, count + 1):
        m.text = ""
        m.raw(f"<h2>Chapter {k}</h2>")
        for _ in range(5):
            m.raw(tag).keep(html.escape(m.prose(3, 0)), "</p>")
        pages.append(_page(m.text))
    return pages


def calibre(m: Maker) -> bytes:
    return _epub(m, "", _chapters(m, 6, '<p class="calibre1">'), {"mimetype2": ""})


def sigil(m: Maker) -> bytes:
    """A title page and a page of rights before the text, numbers of pages inside it."""
    title = _page(
        "<p>Lanterns</p><p>Copyright \u00a9 2020 A. Zzyzx. All rights reserved.</p><p>ISBN 978-3-16-148410-0 zzyzxisbn</p>"
    )
    m.dropped += "Zzyzx zzyzxisbn\n"
    pages = _chapters(m, 6, '<p><span epub:type="pagebreak" role="doc-pagebreak" title="7">7</span>')
    return _epub(m, "OEBPS/", [title, *pages])


def indesign(m: Maker) -> bytes:
    """Every heading is a <p> with a class, notes are asides, words are cut by soft hyphens."""
    pages = []
    for k in range(6):
        m.text = ""
        for _ in range(5):
            m.raw('<p class="Body-Text ParaOverride-1"><span class="CharOverride-2">').keep(
                m.prose(2, 0), " the har\u00adbour is near"
            )
            m.kept += "the harbour is near\n"
            m.raw('<a epub:type="noteref" href="#n1">1</a>.</span></p><aside epub:type="footnote" id="n1"><p>').junk(
                f"Vide zzyzxnote {k}", "</p></aside>"
            )
        pages.append(_page(m.text))
    return _epub(m, "OEBPS/", pages)


def ebookmaker(m: Maker) -> bytes:
    """Project Gutenberg's own e-book: header and licence are pages of it."""
    pages = _chapters(m, 6, "<p>")
    head = _page(
        "<p>The Project Gutenberg eBook of Lanterns</p><p>Title: Lanterns</p><p>Author: A. Nobody</p><p>*** START OF THE PROJECT GUTENBERG EBOOK LANTERNS ***</p>"
    )
    tail = _page(
        "<p>*** END OF THE PROJECT GUTENBERG EBOOK LANTERNS ***</p><p>Updated zzyzxeditions will replace the previous one.</p>"
    )
    m.dropped += "zzyzxeditions\n"
    return _epub(m, "OEBPS/", [head, *pages, tail])


def twice(m: Maker) -> bytes:
    """A spine that names its pages again and again."""
    return _epub(m, "", _chapters(m, 6, "<p>"), spine=[0, 1, 2, 3, 4, 5, 0, 1, 2])


PAGES = {f.__name__: f for f in [word, pandoc, blog, nineties, gutenberg_html, wiki]}
BOOKS = {f.__name__: f for f in [calibre, sigil, indesign, ebookmaker, twice]}


def make(name: str) -> tuple[bytes, str, str]:
    """Return a file's bytes, what must be kept of it, and what must not."""
    both = PAGES | BOOKS
    maker = Maker(2_000 + list(both).index(name))
    return both[name](maker), maker.kept, maker.dropped
