"""What a rule carries from step to step for each tensor by itself, and what becomes of it."""

from __future__ import annotations

import numpy as np

from foreshock_service.clipping.protocol import Floats, Judgement, Mask, Norms, grown, of_tensors


class Carried:
    """A number for each tensor, and on how many steps it had a gradient; 0 before the first."""

    def __init__(self) -> None:
        self.values = np.zeros(0)
        self.steps = np.zeros(0)

    def make_room(self, norms: Norms) -> None:
        """Take in the tensors that are new."""
        self.values = grown(self.values, norms.num_tensors, 0.0)
        self.steps = grown(self.steps, norms.num_tensors, 0.0)

    def carry(self, values: Floats, present: Mask) -> None:
        """Keep the new numbers of the tensors that have a gradient."""
        self.values = np.where(present, values, self.values)
        self.steps[present] += 1.0

    def judgement(self, factors: Floats, measured: Floats, present: Mask) -> Judgement:
        """The judgement by a factor for each tensor; `measured` is what the rule read of it.

        What is carried and is not finite any more will never be again.
        """
        return of_tensors(
            factors,
            non_finite=bool((present & ~np.isfinite(measured)).any()),
            poisoned=int((~np.isfinite(self.values)).sum()),
        )
