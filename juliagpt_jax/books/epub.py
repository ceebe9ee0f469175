"""An e-book (.epub): which pages it has, in which order, and what it says about itself."""

import posixpath
import zipfile
from typing import Any
from urllib.parse import unquote

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  (compiled, without a stub)

from juliagpt_jax.books import archives
from juliagpt_jax.ground.errors import UserError


def pages(name: str, stream: Any, budget: archives.Budget) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the pages of an e-book's spine, in their order, each once; and its title and author.

    META-INF/container.xml names the package file, which names the pages. All of them together count as one file.

    Raises:
        UserError: a page or a part of the package is missing, encrypted or larger than the budget allows.
    """
    with zipfile.ZipFile(stream) as archive:
        members = {m.filename: m for m in archives.checked(name, archive, budget)}
        left = min(budget.file_bytes, budget.total_bytes)  # for all pages together

        def page(path: str) -> bytes:
            nonlocal left
            if path not in members:
                raise UserError(f"{name}: not a sound e-book: {path} is missing")
            content = archives.content_of(name, archive, members[path], budget)
            left -= len(content)
            if left < 0:
                raise UserError(
                    f"{name}: more than {min(budget.file_bytes, budget.total_bytes):,} bytes once unpacked; "
                    "--max_bytes, --max_file_bytes say how much is read"
                )
            return content

        root = _package(name, page("META-INF/container.xml")).root
        if not root:
            raise UserError(f"{name}: not a sound e-book: its container names no package file")
        package = _package(name, page(root))
        if "META-INF/encryption.xml" in members and b"EncryptedData" in page("META-INF/encryption.xml"):
            if "META-INF/rights.xml" in members or "META-INF/sinf.xml" in members:
                raise UserError(f"{name}: encrypted by its seller (DRM); its text cannot be read")
        found: dict[str, bytes] = {}
        for item in package.spine:
            if item not in package.items:
                raise UserError(f"{name}: not a sound e-book: its spine names {item!r}, which is not in it")
            href, properties = package.items[item]
            path = posixpath.normpath(posixpath.join(posixpath.dirname(root), unquote(href.split("#")[0])))
            if "nav" not in properties.split() and path not in found:
                found[path] = page(path)
        if not found:
            raise UserError(f"{name}: not a sound e-book: no pages in its spine")
        return found, package.facts


def _package(name: str, content: bytes) -> "_Package":
    """Return what an e-book's container.xml or package file says, also where it is not sound XML. Entities are not
    expanded, so that none can swell."""
    target = _Package()
    parser = etree.XMLParser(target=target, recover=True, resolve_entities=False, no_network=True, load_dtd=False)
    try:
        parser.feed(content)
        parser.close()
    except etree.LxmlError as error:
        if not (target.root or target.items):
            raise UserError(f"{name}: not a sound e-book: {' '.join(str(error).split())[:200]}") from error
    return target


class _Package:
    """The events of an XML parser over an e-book's container.xml or package file.

    Attributes:
        root: of a container: the path of the package file.
        items: of a package: page and properties of each id.
        spine: ids in reading order.
        facts: title and author.
    """

    def __init__(self) -> None:
        self.root = ""
        self.items: dict[str, tuple[str, str]] = {}
        self.spine: list[str] = []
        self.facts: dict[str, str] = {}
        self._fact = ""

    def start(self, tag: str, values: dict[str, str]) -> None:
        space, _, name = tag.rpartition("}")
        name = name.rpartition(":")[2]
        if name == "rootfile" and not self.root:
            self.root = values.get("full-path", "")
        elif name == "item":
            self.items[values.get("id", "")] = (values.get("href", ""), values.get("properties", ""))
        elif name == "itemref":
            self.spine.append(values.get("idref", ""))
        dublin = "purl.org/dc" in space or tag.startswith("dc:")
        self._fact = {"title": "title", "creator": "author"}.get(name, "") if dublin else ""

    def data(self, data: str) -> None:
        if self._fact and data.strip():
            self.facts.setdefault(self._fact, " ".join(data.split()))

    def end(self, tag: str) -> None:
        self._fact = ""

    def comment(self, text: str) -> None:
        pass

    def pi(self, target: str, data: str | None = None) -> None:
        pass

    def close(self) -> None:
        pass
