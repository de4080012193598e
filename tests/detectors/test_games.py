"""Which scalars say that a run is a game."""

from __future__ import annotations

import pytest
from foreshock_service.detectors.games import is_game


@pytest.mark.parametrize(
    "name",
    [
        "loss_d", "d_loss", "lossD", "Loss_G", "errG", "loss/generator", "train/critic_loss",
        "policy_loss", "mean_return", "charts/episodic_return", "rollout/ep_rew_mean", "mean_q",
        "episode_reward_mean", "losses/td_loss", "losses/qf1_values", "entropy", "losses/entropy",
    ],
)  # fmt: skip
def test_players_and_rewards_are_known_by_their_names(name: str) -> None:
    """Those of the usual frameworks."""
    assert is_game(["loss", name])


@pytest.mark.parametrize(
    "name",
    [
        "grad_norm", "lr", "loss_scale", "log_z", "attn_logit_max", "train/loss", "router_entropy",
        "attn_entropy", "rewards/chosen", "rewards/margins", "loss_kl", "error", "d_model",
    ],
)  # fmt: skip
def test_what_others_log_is_no_game(name: str) -> None:
    """Nor are the rewards that preference training makes of its own loss."""
    assert not is_game(["loss", name])
