"""The parts that a page is put together from, as HTML text; nothing in it is loaded from anywhere."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import quote

import numpy as np

from smalldata_vit.reports.drawing import ROLES, Panel
from smalldata_vit.reports.page_style import STYLE

SHARP = 64
"""Images up to this side are shown pixel by pixel and kept without loss."""


def page(title: str, above: str, answer: str, facts: str, sections: Mapping[str, str]) -> str:
    """A whole document: a line above, the answer in one sentence, facts, and the sections that are not empty."""
    there = {name: body for name, body in sections.items() if body}
    links = "".join(f'<a href="#{anchor(name)}">{escape(name)}</a>' for name in there)
    bodies = "".join(
        f'<section id="{anchor(name)}"><h2>{escape(name)}</h2>{body}</section>\n' for name, body in there.items()
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f'<link rel="icon" href="data:,">\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n'
        f"<header>{above}<h1>{answer}</h1>{facts}</header>\n<nav>{links}</nav>\n{bodies}</main>\n</body>\n</html>\n"
    )


def anchor(name: str) -> str:
    """The place of a section, for links."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def facts(said: Sequence[tuple[str, str]]) -> str:
    """Short facts beside each other, each with its name above it."""
    parts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in said if value)
    return f'<dl class="facts">{parts}</dl>'


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; `kind`: lead, remark or warning."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def code(text: str) -> str:
    """Something to type."""
    return f"<pre><code>{escape(text)}</code></pre>"


def details(summary: str, body: str) -> str:
    """What is folded until it is asked for; unfolded on paper."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    words: int = 1,
    marked: Sequence[int] = (),
    links: Mapping[str, str] | None = None,
) -> str:
    """A table of texts, the first `words` columns words and the rest numbers.

    `marked` rows stand out; `links`: where a cell of the first column leads, by its text.
    """
    kinds = ["" if place < words else ' class="n"' for place in range(len(head))]
    top = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, head, strict=True))
    body = ""
    for number, row in enumerate(rows):
        cells = [escape(cell) for cell in row]
        if links and row[0] in links:
            cells[0] = f'<a href="{escape(quote(links[row[0]]))}">{cells[0]}</a>'
        body += '<tr class="marked">' if number in marked else "<tr>"
        body += "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells, strict=True)) + "</tr>\n"
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>'


def panels(drawn: Sequence[Panel]) -> str:
    """Small plots beside each other, as many as the page is wide."""
    return f'<div class="panels">{"".join(map(figure, drawn))}</div>' if drawn else ""


def figure(panel: Panel) -> str:
    """A plot below its title and its keys."""
    keys = "".join(
        f'<span class="key{" dashed" if key.dashed else ""}" style="--key:{ROLES[key.role]}">{escape(key.name)}</span>'
        for key in panel.keys
    )
    legend = f'<span class="keys">{keys}</span>' if keys else ""
    note = f"<small>{escape(panel.note)}</small>" if panel.note else ""
    wide = ' class="wide"' if panel.wide else ""
    return f"<figure{wide}><figcaption>{escape(panel.title)}{note}{legend}</figcaption>{panel.svg}</figure>"


def picture(pixels: np.ndarray, said: str, side: int) -> str:
    """An image, `side` CSS pixels wide; small ones as they are, larger ones as JPEG.

    `pixels`: (H, W, channels) uint8; said here and not as a type, for which every command would import jaxtyping.
    """
    from PIL import Image

    made, image = io.BytesIO(), Image.fromarray(pixels)
    sharp = max(pixels.shape[:2]) <= SHARP or pixels.shape[2] == 4
    if sharp:
        image.save(made, "png", optimize=True)
    else:
        image.save(made, "jpeg", quality=90)
    kind = "png" if sharp else "jpeg"
    return inline(made.getvalue(), kind, said, f' width="{side}"' + (' class="sharp"' if sharp else ""))


def inline(data: bytes, kind: str, said: str, attributes: str = "") -> str:
    """An image file inside the page."""
    text = base64.b64encode(data).decode()
    return f'<img src="data:image/{kind};base64,{text}" alt="{escape(said)}"{attributes}>'
