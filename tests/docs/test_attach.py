"""docs/attach.md lists the public names with the signatures that they have."""

from __future__ import annotations

import inspect
import re

import foreshock
from foreshock.testing import RecordingTransport
from foreshock.watching import Watch

from tests.docs.markdown import ROOT, rows

ROWS = rows((ROOT / "docs" / "attach.md").read_text())


def signature(method: object) -> str:
    """The parameters of a method as a caller sees them, without types."""
    assert callable(method)
    parameters = list(inspect.signature(method).parameters.values())[1:]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(bare))


def public(kind: type) -> dict[str, object]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


def test_every_call_of_a_watch_is_documented_with_its_signature() -> None:
    """Exactly the public methods, each as it is called."""
    methods = {n: m for n, m in public(Watch).items() if inspect.isfunction(m)}
    documented = [row for row in ROWS if row.startswith("watch.")]
    assert sorted(documented) == sorted(f"watch.{n}{signature(m)}" for n, m in methods.items())


def test_what_a_recording_offers_is_documented() -> None:
    """Its properties and questions; what the client calls on it is no business of the reader's."""
    seam = {"post_schema", "post_frames", "close"}
    offered = [
        name + (signature(member) if inspect.isfunction(member) else "")
        for name, member in public(RecordingTransport).items()
        if name not in seam
    ]
    documented = [row for row in ROWS if re.match(r"\w+(\(|$)", row) and row != "Call"]
    assert sorted(documented) == sorted(offered)


def test_the_package_has_these_names_and_no_other() -> None:
    """What a prompt offers, and what a star import takes."""
    assert foreshock.__all__ == ["Watch", "__version__", "watch"]
    assert dir(foreshock) == sorted(foreshock.__all__)
    assert [getattr(foreshock, name) for name in foreshock.__all__]
