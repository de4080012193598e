"""From a finished frame to an acknowledged batch, away from the training thread."""

from foreshock.sender.frames import Frame, assemble
from foreshock.sender.outbox import Outbox
from foreshock.sender.post import drain

__all__ = ["Frame", "Outbox", "assemble", "drain"]
