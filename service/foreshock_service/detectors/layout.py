"""The fixed facts of a schema as arrays: kinds, depth, order in the flow of a training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import KINDS, Series, SeriesSchema

ACTIVATION, ACTIVATION_GRAD, GRADIENT, WEIGHT, UPDATE = range(len(KINDS))

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_ATTENTION: Final = ("attn", "attention")
_LOGITS: Final = ("logit", "score")
_VECTOR_TAILS: Final = ("bias", "gain", "scale")
_SYMMETRIC: Final = frozenset({"Tanh", "Softsign", "Hardtanh", "RNN", "GRU", "LSTM"})
_ONE_SIDED: Final = frozenset({"Sigmoid", "Hardsigmoid"})
_LOOK_UPS: Final = frozenset({"Embedding", "EmbeddingBag"})


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Arrays over the series of one schema; every shape is [series] unless said otherwise.

    `flow` is the rank in the order in which a step makes its tensors: activations from the input
    up, gradients from the loss down, then updates, then weights. `is_matrix` marks parameters with
    at least two dimensions (guessed from the name where the schema has no shape): biases in front
    of a normalisation layer have gradients of rounding noise, so depth rules leave vectors out.
    `symmetric` and `one_sided` mark outputs of bounded functions, of [-1, 1] and of [0, 1].
    `update_of` and `gradient_of` are the indices of a weight's update and gradient, -1 without one,
    `updated` the indices of the weights that have an update, `updated_matrices` of the matrices
    among them. By kind, `indices` are those of its series and `matrices` those of its matrices:
    what is about one kind alone is worked out for a fifth of the series.
    """

    schema: SeriesSchema
    keys: tuple[tuple[str, str], ...]
    kind: npt.NDArray[np.int8]
    depth: Indices
    flow: Indices
    is_matrix: Mask
    is_attention_logit: Mask
    is_output: Mask
    is_look_up: Mask
    symmetric: Mask
    one_sided: Mask
    half: Mask
    update_of: Indices
    gradient_of: Indices
    updated: Indices
    updated_matrices: Indices
    kind_masks: tuple[Mask, ...]
    indices: tuple[Indices, ...]
    matrices: tuple[Indices, ...]
    column: dict[str, int]

    @property
    def num_series(self) -> int:
        """How many series a frame has."""
        return len(self.keys)

    def of_kind(self, *kinds: int) -> Mask:
        """Mask [series] of the given kinds; not to be written into."""
        mask = self.kind_masks[kinds[0]]
        for kind in kinds[1:]:
            mask = mask | self.kind_masks[kind]
        return mask


def layout_of(schema: SeriesSchema) -> Layout:
    """Work a schema out once; detectors then index arrays instead of names."""
    series = schema.series
    kind = np.array([KINDS.index(s.kind) for s in series], np.int8)
    depth = np.array([s.depth for s in series], np.int64)
    masks = tuple(kind == k for k in range(len(KINDS)))
    place = {(s.kind, s.name): i for i, s in enumerate(series)}

    def mask(holds: list[bool]) -> Mask:
        return np.array(holds, np.bool_)

    def partner(of: str) -> Indices:
        found = [place.get((of, s.name), -1) if s.kind == "weight" else -1 for s in series]
        return np.array(found, np.int64)

    update_of = partner("update")
    updated = np.flatnonzero(update_of >= 0)
    is_matrix = mask([_is_matrix(s) for s in series])
    outputs = masks[ACTIVATION]
    deepest = depth[outputs].max() if outputs.any() else -1
    return Layout(
        schema=schema,
        keys=tuple((s.kind, s.name) for s in series),
        kind=kind,
        depth=depth,
        flow=_flow(kind, depth),
        is_matrix=is_matrix,
        is_attention_logit=mask([_is_attention_logit(s) for s in series]),
        is_output=outputs & (depth == deepest),
        is_look_up=mask([s.module_type in _LOOK_UPS for s in series]),
        symmetric=mask([s.kind == "activation" and s.module_type in _SYMMETRIC for s in series]),
        one_sided=mask([s.kind == "activation" and s.module_type in _ONE_SIDED for s in series]),
        half=mask([s.dtype == "float16" for s in series]),
        update_of=update_of,
        gradient_of=partner("gradient"),
        updated=updated,
        updated_matrices=updated[is_matrix[updated]],
        kind_masks=masks,
        indices=tuple(np.flatnonzero(mask) for mask in masks),
        matrices=tuple(np.flatnonzero(mask & is_matrix) for mask in masks),
        column={name: i for i, name in enumerate(schema.statistics)},
    )


def _flow(kind: npt.NDArray[np.int8], depth: Indices) -> Indices:
    top = int(depth.max()) + 1 if depth.size else 1
    # A gradient of a parameter is ready just after the one of its module's output.
    down = top + 2 * (top - depth)
    return np.select(
        [kind == ACTIVATION, kind == ACTIVATION_GRAD, kind == GRADIENT, kind == UPDATE],
        [depth, down, down + 1, 4 * top + depth],
        5 * top + depth,
    ).astype(np.int64)


def _is_matrix(series: Series) -> bool:
    if series.kind.startswith("activation"):
        return True
    if series.shape or series.numel == 1:
        return len(series.shape) >= 2
    return not series.name.lower().endswith(_VECTOR_TAILS)


def _is_attention_logit(series: Series) -> bool:
    name = series.name.lower()
    return (
        series.kind == "activation"
        and any(word in name for word in _ATTENTION)
        and any(word in name for word in _LOGITS)
    )


def units_of_outputs(layout: Layout) -> dict[int, int]:
    """The deepest activations whose module has a weight matrix: how many units each has, which is
    the number of classes where it is a classifier."""
    units = {
        series.name.removesuffix(".weight"): series.shape[0]
        for series in layout.schema.series
        if series.kind == "weight" and len(series.shape) >= 2
    }
    names = {int(i): layout.keys[i][1] for i in np.flatnonzero(layout.is_output)}
    return {index: units[name] for index, name in names.items() if name in units}


def weights_of_modules(layout: Layout) -> Indices:
    """The index of the weight of each activation's own module, -1 without one [series]."""
    place = {name: i for i, (kind, name) in enumerate(layout.keys) if kind == "weight"}
    return np.array(
        [
            place.get(f"{name}.weight", -1) if kind == "activation" else -1
            for kind, name in layout.keys
        ],
        np.int64,
    )
