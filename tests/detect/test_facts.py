"""What a run says of itself: read as far as it makes sense, whatever a client sent."""

from __future__ import annotations

from typing import Any

import pytest
from foreshock_service.domain.facts import RunFacts, facts_of


def _optimizer(**settings: Any) -> dict[str, Any]:
    return {"optimizers": [{"class": "AdamW", "settings": settings}]}


def test_the_settings_of_the_first_optimizer_are_known() -> None:
    """As PyTorch's defaults have them, a tuple having become a list."""
    info = _optimizer(lr=1e-3, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, amsgrad=False)
    assert facts_of(info) == RunFacts(
        optimizer="AdamW", lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1
    )


@pytest.mark.parametrize(
    "value", [None, "1e-8", True, float("nan"), float("inf"), [], {}, 10**400, -(10**400)]
)
def test_a_setting_that_is_no_number_is_unknown(value: Any) -> None:
    """A client may send what it likes."""
    assert facts_of(_optimizer(eps=value, betas=value)) == RunFacts(optimizer="AdamW")


@pytest.mark.parametrize("betas", [[0.9], [0.9, 1.0], [-0.1, 0.9], ["0.9", 0.9], [[], {}]])
def test_decays_outside_of_their_range_are_unknown(betas: Any) -> None:
    """An average that never forgets is none."""
    assert facts_of(_optimizer(betas=betas)).betas is None


@pytest.mark.parametrize("info", [{}, {"optimizers": 3}, {"optimizers": [3]}, {"config": 3}])
def test_a_run_that_says_nothing_has_no_facts(info: dict[str, Any]) -> None:
    """Rules that need them stay quiet."""
    assert facts_of(info) == RunFacts()


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"fp16": True}, "float16"),
        ({"bf16": True, "fp16": False}, "bfloat16"),
        ({"precision": "16-mixed"}, "float16"),
        ({"precision": 16}, "float16"),
        ({"dtype": "torch.bfloat16"}, "bfloat16"),
        ({"mixed_precision": "fp8"}, "float8"),
        ({"precision": 32}, ""),
        ({"precision": ["fp16"], "dtype": None}, ""),
        ({"dtype": "x" * 10_000}, ""),
    ],
)
def test_the_number_format_is_read_from_the_configuration(
    config: dict[str, Any], name: str
) -> None:
    """By the keys and words that Hugging Face, Lightning, Accelerate and PyTorch use."""
    assert facts_of({"config": config}).number_format == name


def test_of_several_optimizers_all_classes_are_known() -> None:
    """Each once: then nobody says whose a matrix is."""
    info = {"optimizers": [{"class": name} for name in ("SGD", "AdamW", "SGD")] + [3]}
    assert facts_of(info).optimizer == "SGD and AdamW"
