"""Which series are siblings: the same tensor of modules that differ by one number in their name."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from foreshock_service.detectors.layout import ACTIVATION, GRADIENT, Indices, Layout

LEAST_SIBLINGS: Final = 3
_NUMBER: Final = re.compile(r"(?<![^.])\d+(?![^.])")


def sibling_groups(layout: Layout) -> dict[str, Indices]:
    """Groups of at least three activations or gradients that are alike but for one number.

    The key is `kind:name` with a star in the number's place. A name with several numbers is in a
    group for each of them: `blocks.1.experts.0.up` is a sibling of its expert in the other blocks
    and of the other experts of its block. Siblings have one module type, and parameters one shape;
    an activation's shape is that of its tokens.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for index in np.flatnonzero(layout.of_kind(ACTIVATION, GRADIENT) & layout.is_matrix):
        series = layout.schema.series[index]
        shape = "" if series.kind == "activation" else str(series.shape or series.numel)
        for match in _NUMBER.finditer(series.name):
            name = f"{series.name[: match.start()]}*{series.name[match.end() :]}"
            key = (f"{series.kind}:{name}", series.module_type, shape)
            groups.setdefault(key, []).append(int(index))
    return {
        key[0]: np.array(found, np.int64)
        for key, found in groups.items()
        if len(found) >= LEAST_SIBLINGS
    }
