"""The client's error tree.

ForeshockError
├── SettingError      a setting has a value that cannot be used
├── WireError         bytes are not a valid message of the wire format
├── ReducerError      no reducer can measure this tensor or run on this machine
└── SpoolError        the spool folder cannot be used

None of these reaches a training loop after `watch` has returned: there they are counted, logged
once a minute and told to the service.
"""


class ForeshockError(Exception):
    """Base of every error that Foreshock raises on purpose."""


class SettingError(ForeshockError, ValueError):
    """A setting has a value that cannot be used; the message names it and says what is allowed."""


class WireError(ForeshockError, ValueError):
    """Bytes are not a valid message of the wire format; the message says where and why."""


class ReducerError(ForeshockError, RuntimeError):
    """No reducer can measure this tensor, or run on this machine."""


class SpoolError(ForeshockError, OSError):
    """The spool folder cannot be used; the message says what to change."""


class SpoolBusyError(SpoolError):
    """Another living process uses the spool folder; the message says how to tell them apart."""
