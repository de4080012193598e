"""The command `foreshock`."""

from __future__ import annotations

import pytest
from foreshock import __version__
from foreshock.__main__ import main


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """`foreshock --version` prints the package's version."""
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert (stop.value.code, capsys.readouterr().out) == (0, f"foreshock {__version__}\n")


def test_the_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Every installed command is in the help with its line."""
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "send what killed runs left in the spool" in capsys.readouterr().out


def test_without_the_service_serve_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a training node `foreshock serve` names the missing distribution."""
    monkeypatch.setattr("foreshock.__main__.entry_points", lambda group: ())
    assert main(["serve"]) == 2
    assert "pip install foreshock-service" in capsys.readouterr().err


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error is answered with the commands that there are."""
    with pytest.raises(SystemExit) as stop:
        main(["flsuh"])
    assert stop.value.code == 2
    assert "flush" in capsys.readouterr().err
