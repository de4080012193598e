"""Whether a run is a game, two players or one against a world, by the names of what it logs.

Its loss is no measure of what was learned: a discriminator's falls while its generator gets worse,
and a policy's wavers around nought. Rules that ask for the level of the loss do not speak of it.

Names are those that Stable-Baselines3 (`rollout/ep_rew_mean`, `train/actor_loss`), CleanRL
(`charts/episodic_return`, `losses/td_loss`, `losses/qf1_values`), RLlib (`episode_reward_mean`) and
the DCGAN of PyTorch's examples (`Loss_D`, `errG`) write. Preference training also logs rewards
(`rewards/chosen`), those of its own loss, and is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

_OF_A_WORLD: Final = frozenset(
    ["return", "returns", "episodic", "reward", "rew", "td", "q", "qf", "qf1", "qf2", "qs"]
)
_PLAYERS: Final = frozenset(
    ["d", "g", "disc", "discriminator", "gen", "generator", "critic", "actor", "policy"]
)
_LOSSES: Final = frozenset(["loss", "losses", "err", "error"])
_ENTROPY_OF: Final = frozenset(["entropy", "policy", "mean", "loss", "losses", "train", "rollout"])
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+\d*|\d+")


def is_game(names: Iterable[str]) -> bool:
    """Whether any of the scalars is one that only players log."""
    return any(_is_of_a_game(name) for name in names)


@lru_cache(maxsize=4096)
def _is_of_a_game(name: str) -> bool:
    words = {word.lower() for word in _WORDS.findall(name)}
    if not words.isdisjoint(_OF_A_WORLD):
        return True
    if "entropy" in words and words <= _ENTROPY_OF:
        return True
    return not words.isdisjoint(_PLAYERS) and not words.isdisjoint(_LOSSES)
