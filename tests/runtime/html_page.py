"""A page as tests read it: its elements by Python's own parser, which knows nothing of the template."""

from dataclasses import dataclass, field
from functools import cached_property
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img", "input"}


@dataclass
class Element:
    """An element with its attributes, its parents' names and ids, and all text within."""

    tag: str
    attributes: dict
    within: tuple
    parts: list = field(default_factory=list)

    @cached_property
    def text(self):
        return "".join(self.parts)


@dataclass
class Page(HTMLParser):
    """All elements of a page, in order. Raises where an end is missing or of another element."""

    source: str
    elements: list = field(default_factory=list)

    def __post_init__(self):
        super().__init__(convert_charrefs=True)
        self._open = []
        self.feed(self.source)
        self.close()
        assert not self._open, f"never closed: {self._open[-1].tag}"

    def handle_starttag(self, tag, attributes):
        within = tuple(e.attributes.get("id") or e.tag for e in self._open)
        element = Element(tag, dict(attributes), within)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append(Element(tag, dict(attributes), tuple(e.tag for e in self._open)))

    def handle_endtag(self, tag):
        assert self._open[-1].tag == tag, f"{tag} ends within {self._open[-1].tag}"
        self._open.pop()

    def handle_data(self, data):
        for element in self._open:
            element.parts.append(data)

    def all(self, tag, within=None):
        """Elements of a name, those within the element of an id."""
        return [e for e in self.elements if e.tag == tag and (within is None or within in e.within)]

    def rows(self, within):
        """The cells of every row of the bodies of tables there."""
        rows = []
        for element in self.elements:
            if within not in element.within or "tbody" not in element.within:
                continue
            if element.tag == "tr":
                rows.append([])
            elif element.tag in ("td", "th"):
                rows[-1].append(element.text.strip())
        return rows

    def facts(self, within="header"):
        """Names and values of lists there."""
        names = [e.text for e in self.all("dt") if within in e.within]
        values = [e.text for e in self.all("dd") if within in e.within]
        return dict(zip(names, values, strict=True))
