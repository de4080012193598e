"""The fixed facts of a schema as arrays: kinds, depth, order in the flow of a training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import KINDS, SeriesSchema

ACTIVATION, ACTIVATION_GRAD, GRADIENT, WEIGHT, UPDATE = range(len(KINDS))

_ATTENTION: Final = ("attn", "attention")
_LOGITS: Final = ("logit", "score")
_VECTOR_TAILS: Final = ("bias", "gain", "scale")


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Arrays over the series of one schema; every shape is [series].

    `flow` is the rank in the order in which a step makes its tensors: activations from the input
    up, gradients from the loss down, then updates, then weights. `is_matrix` marks parameters with
    at least two dimensions (guessed from the name where the schema has no shape): biases in front
    of a normalisation layer have gradients of rounding noise, so depth rules leave vectors out.
    """

    schema: SeriesSchema
    keys: tuple[tuple[str, str], ...]
    kind: npt.NDArray[np.int8]
    depth: npt.NDArray[np.int64]
    flow: npt.NDArray[np.int64]
    is_matrix: npt.NDArray[np.bool_]
    is_attention_logit: npt.NDArray[np.bool_]
    column: dict[str, int]

    @property
    def num_series(self) -> int:
        """How many series a frame has."""
        return len(self.keys)

    def of_kind(self, *kinds: int) -> npt.NDArray[np.bool_]:
        """Mask [series] of the given kinds."""
        return np.isin(self.kind, kinds)


def layout_of(schema: SeriesSchema) -> Layout:
    """Work a schema out once; detectors then index arrays instead of names."""
    series = schema.series
    kind = np.array([KINDS.index(s.kind) for s in series], np.int8)
    depth = np.array([s.depth for s in series], np.int64)
    top = int(depth.max()) + 1 if len(series) else 1
    # A gradient of a parameter is ready just after the one of its module's output.
    down = top + 2 * (top - depth)
    flow = np.select(
        [kind == ACTIVATION, kind == ACTIVATION_GRAD, kind == GRADIENT, kind == UPDATE],
        [depth, down, down + 1, 4 * top + depth],
        5 * top + depth,
    ).astype(np.int64)
    lowered = [s.name.lower() for s in series]
    return Layout(
        schema=schema,
        keys=tuple((s.kind, s.name) for s in series),
        kind=kind,
        depth=depth,
        flow=flow,
        is_matrix=np.array(
            [
                s.kind.startswith("activation") or len(s.shape) >= 2
                if s.shape or s.kind.startswith("activation")
                else not name.endswith(_VECTOR_TAILS)
                for s, name in zip(series, lowered, strict=True)
            ],
            np.bool_,
        ),
        is_attention_logit=np.array(
            [
                s.kind == "activation"
                and any(word in name for word in _ATTENTION)
                and any(word in name for word in _LOGITS)
                for s, name in zip(series, lowered, strict=True)
            ],
            np.bool_,
        ),
        column={name: i for i, name in enumerate(schema.statistics)},
    )
