"""Explanations of incident kinds as pages, from the Markdown that the repository has of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from foreshock_service.errors import NotFound
from foreshock_service.incidents.explanations import PATH, explained_kinds, explanation

IN_SHORT: Final = ("Usual causes", "What to try")
"""Sections that an incident's own page shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What stands under one heading."""

    title: str
    html: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What the template shows; `kind` is None for the index."""

    kind: str | None
    title: str
    link: str
    intro: Markup
    sections: Sequence[Section]

    @property
    def in_short(self) -> Sequence[Section]:
        """As much as stands on an incident's page."""
        return [section for section in self.sections if section.title in IN_SHORT]


@cache
def explanation_page(kind: str | None) -> Explanation:
    """The page of a kind, or the index.

    Raises:
        NotFound: no page explains this kind.
    """
    text = explanation(kind)
    if text is None:
        raise NotFound(f"no page explains the kind {kind!r}: {PATH} lists those that are explained")
    # Markup inside the Markdown is shown, not used: nothing but its own marks becomes HTML.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for token in tokens:
        token.children = _with_links_of_ours(token.children or []) or token.children
    title, parts = "", [("", list[Token]())]
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[at + 1].content
            if token.tag == "h1":
                title = heading
            else:
                parts.append((heading, []))
        elif not _is_of_a_heading(tokens, at):
            parts[-1][1].append(token)

    def html(part: Sequence[Token]) -> Markup:
        return Markup(markdown.renderer.render(part, markdown.options, {}))

    return Explanation(
        kind=kind,
        title=title,
        link=PATH if kind is None else f"{PATH}/{kind}",
        intro=html(parts[0][1]),
        sections=[Section(title=heading, html=html(part)) for heading, part in parts[1:]],
    )


def _is_of_a_heading(tokens: Sequence[Token], at: int) -> bool:
    return tokens[at].type == "heading_close" or (at > 0 and tokens[at - 1].type == "heading_open")


def _with_links_of_ours(children: Sequence[Token]) -> list[Token]:
    """Links to other kinds lead to their pages here, those to the world leave; others are text."""
    kept, dropping = [], False
    for token in children:
        if token.type == "link_open":
            target = _target(str(token.attrGet("href") or ""))
            dropping = target is None
            if target is not None:
                token.attrSet("href", target)
                if not target.startswith("/"):
                    token.attrSet("rel", "noopener noreferrer")
        if not (dropping and token.type in ("link_open", "link_close")):
            kept.append(token)
        if token.type == "link_close":
            dropping = False
    return kept


def _target(href: str) -> str | None:
    if href.startswith("https://"):
        return href
    kind = href.removesuffix(".md")
    return f"{PATH}/{kind}" if kind in explained_kinds() else None
