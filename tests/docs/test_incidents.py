"""Each kind of incident is explained on a page of its own, and each page belongs to a kind."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreshock_service.detectors import ranks
from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.incidents import silent_client
from foreshock_service.incidents.explanations import FOLDER as CARRIED
from foreshock_service.incidents.explanations import explained_kinds

from tests.docs.markdown import ROOT, anchors, links

FOLDER = ROOT / "docs" / "incidents"
INDEX = FOLDER / "README.md"
SECTIONS = {"rule", "usual-causes", "what-to-look-at", "what-to-try", "sources"}


def _texts(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def _kinds_in(source: str) -> Iterator[str]:
    """Strings that are passed as `kind=`, those that a variable called `kind` is set to, and those
    of a constant whose name ends so in the plural."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "kind":
            yield from _texts(node.value)
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.For):
            targets = [node.target]
        names = {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target).endswith("_KINDS"):
            yield from _texts(node)
        if "kind" in names and isinstance(node, ast.Assign | ast.For):
            yield from _texts(node.value if isinstance(node, ast.Assign) else node.iter)


STAGES = {"watchdog": silent_client, "ranks": ranks}
"""Rules of stages that open incidents without a detector: the heading, and the rule's module."""


def _kinds_of_stage(stage: str) -> set[str]:
    """What its module passes as `kind=`: strings, and constants by their names."""
    module = STAGES[stage]
    source = inspect.getsource(module)
    constants = {
        name.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.keyword) and node.arg == "kind"
        for name in ast.walk(node.value)
        if isinstance(name, ast.Name)
    }
    return {*_kinds_in(source), *(getattr(module, name) for name in constants)}


def _speakers() -> dict[str, set[str]]:
    """By the heading of a rule, the kinds that it speaks of: detectors and stages."""
    spoken = {
        name: set(_kinds_in(inspect.getsource(sys.modules[make.__module__])))
        for name, make in DETECTORS.items()
    }
    return spoken | {stage: _kinds_of_stage(stage) for stage in STAGES}


def kinds() -> set[str]:
    """Every kind that a detector in the registry or a stage can speak of."""
    return {kind for spoken in _speakers().values() for kind in spoken}


PAGES = sorted(path for path in FOLDER.glob("*.md") if path != INDEX)


def test_each_kind_has_a_page_and_each_page_a_kind() -> None:
    """Whoever is told of an incident finds what it means under its name."""
    assert {page.stem for page in PAGES} == kinds()


def test_the_service_carries_the_pages() -> None:
    """Through a link, so that there is one text of each."""
    assert explained_kinds() == kinds()
    assert CARRIED.resolve() == FOLDER


def test_the_index_lists_each_page_once() -> None:
    """In the order of the alphabet."""
    listed = [link for link in links(INDEX) if not link.startswith("../")]
    assert listed == [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_answers_the_same_questions(page: Path) -> None:
    """Its kind, the rule with a link to where it is told in full, causes, what to do, sources."""
    assert anchors(page) > SECTIONS
    assert f"Kind `{page.stem}`." in page.read_text()
    rules = [link for link in links(page) if link.startswith("../detection.md#")]
    assert {link.partition("#")[2] for link in rules} <= _speakers().keys()
    assert rules


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_points_to_the_detectors_that_speak_of_its_kind(page: Path) -> None:
    """A rule that moved to another detector takes the link with it."""
    linked = {link.partition("#")[2] for link in links(page) if "detection.md#" in link}
    speak = {name for name, spoken in _speakers().items() if page.stem in spoken}
    assert linked == speak


@pytest.mark.parametrize("page", [*PAGES, INDEX], ids=lambda page: page.stem)
def test_links_resolve(page: Path) -> None:
    """Within the repository files exist, headings included; beyond it addresses are of https."""
    for link in links(page):
        path, _, fragment = link.partition("#")
        if "://" in link:
            assert re.match(r"https://[\w.]+/", link)
            continue
        target = page.parent / path
        assert target.is_file()
        assert not fragment or fragment in anchors(target)
