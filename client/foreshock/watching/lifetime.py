"""How long a run lives: until it is closed, until the process ends, or until nothing is left that
could add to it.

A loop may call `watch` and keep no handle. What keeps the run alive then is the model, or the
optimizer, whose hooks refer to it; nothing that lasts as long as the process does, such as the
sender's threads, refers to a model.
"""

from __future__ import annotations

import atexit
import multiprocessing.util
import os
import sys
import weakref
from typing import Final

from foreshock.reducers.protocol import Reducer
from foreshock.sender import Outbox
from foreshock.watching.handle import Watch
from foreshock.watching.recorder import Recorder
from foreshock.wire import ClientCounters

_live: Final[weakref.WeakSet[Watch]] = weakref.WeakSet()
_ending: Final[set[Outbox]] = set()
"""Outboxes of runs that were dropped without a close, while their threads are at work."""
_followed: Final[set[int]] = set()
"""The processes, this one and those it was forked from, that have hooks at their end."""


class Account:
    """A recorder's counters, for an outbox that must not keep the recorder, and with it the model,
    alive.

    It keeps the reducer, which knows no model, until the last frame is made of its table: garbage
    is finalised in no order, and the table would be freed before the handle can ask for it.
    """

    def __init__(self, recorder: Recorder, reducer: Reducer) -> None:
        self._recorder, self._reducer = weakref.ref(recorder), reducer
        self._last = ClientCounters()

    def __call__(self) -> ClientCounters:
        """The counters now, or the last ones that were asked for."""
        recorder = self._recorder()
        if recorder is not None:
            self._last = recorder.counters()
        return self._last


def follow(handle: Watch) -> None:
    """Close `handle` when the process ends, and keep it out of forked children."""
    _live.add(handle)
    if os.getpid() in _followed:
        return
    if not _followed:
        os.register_at_fork(after_in_child=_leave_to_parent)
    _followed.add(os.getpid())
    # In a child again, because the processes of multiprocessing begin by forgetting what was
    # registered; and twice, because they may end without `atexit`.
    atexit.unregister(_close_all)
    atexit.register(_close_all)
    multiprocessing.util.Finalize(None, _close_all, exitpriority=0)


def end_later(outbox: Outbox) -> None:
    """Remember an outbox that nobody waits for, so that the process does not end before it."""
    _ending.difference_update([other for other in _ending if not other.at_work])
    _ending.add(outbox)


def _leave_to_parent() -> None:
    for handle in list(_live):
        handle._in_child()
    _live.clear()
    _ending.clear()


def _close_all() -> None:
    # The interpreter keeps an exception that nobody caught; a run that it ended has crashed.
    error = getattr(sys, "last_value", None)
    for handle in list(_live):
        handle.__exit__(type(error) if error else None, error, None)
    while _ending:
        _ending.pop().wait()
