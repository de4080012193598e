"""The demo's model is a real transformer: it cannot see ahead and starts as it should."""

from __future__ import annotations

import math

import pytest
import torch
from foreshock.demo.model import LanguageModel, ModelSize


@pytest.fixture
def model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelSize())


def test_no_position_sees_what_follows_it(model: LanguageModel) -> None:
    """Changing the last token changes the logits of the last position only."""
    tokens_NC = torch.randint(256, (2, 16))
    changed_NC = tokens_NC.clone()
    changed_NC[:, -1] = (changed_NC[:, -1] + 1) % 256
    before, after = model(tokens_NC), model(changed_NC)
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


def test_an_untrained_model_knows_nothing(model: LanguageModel) -> None:
    """The first loss is that of a fair guess among 256 bytes."""
    tokens_NC = torch.randint(256, (8, 64))
    loss = torch.nn.functional.cross_entropy(model(tokens_NC).flatten(0, 1), tokens_NC.flatten())
    assert float(loss.detach()) == pytest.approx(math.log(256), abs=0.1)


def test_residual_projections_start_smaller_by_the_depth(model: LanguageModel) -> None:
    """What adds to the residual stream starts at 0.02 / sqrt(2 L), everything else at 0.02."""

    def spread(name: str) -> float:
        return float(model.get_parameter(name).detach().std())

    shrunk = 0.02 / math.sqrt(8)
    assert spread("blocks.0.attn.qkv.weight") == pytest.approx(0.02, rel=0.1)
    assert spread("blocks.3.attn.proj.weight") == pytest.approx(shrunk, rel=0.1)
    assert spread("blocks.3.mlp_down.weight") == pytest.approx(shrunk, rel=0.1)


def test_the_largest_attention_logit_is_that_of_any_block(model: LanguageModel) -> None:
    """Scaling the QKV weights of one block by 10 shows, though the others stay calm."""
    tokens_NC = torch.randint(256, (2, 64))
    model(tokens_NC)
    before = float(model.attn_logit_max())
    with torch.no_grad():
        model.get_parameter("blocks.2.attn.qkv.weight").mul_(10)
    model(tokens_NC)
    assert float(model.attn_logit_max()) > 20 * before
