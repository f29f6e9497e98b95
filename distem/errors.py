"""Errors that distem raises: each says the fact, the values and the remedy.

Every error carries the exit code the command line ends with, so that a scheduler can
tell a wrong config (2) from wrong data (3), a failed fit (4) and an interrupted run (75).
"""

from __future__ import annotations

from typing import ClassVar


class DistemError(Exception):
    """Base of all errors distem raises on purpose.

    Parameters
    ----------
    fact : str
        What is wrong, with the values that show it.
    remedy : str, optional
        What to do about it.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, fact: str, remedy: str = "") -> None:
        self.fact = fact
        self.remedy = remedy
        super().__init__(f"{fact} {remedy}".strip())

    def __reduce__(self) -> tuple[type[DistemError], tuple[str, str]]:
        # the default would call __init__ with the joined message when unpickled on another process
        return type(self), (self.fact, self.remedy)


class ConfigError(DistemError, ValueError):
    """The config, or the call, is wrong: nothing was started."""

    exit_code = 2


class RunFolderError(ConfigError):
    """The output folder cannot be used: it belongs to another run, or is not a run folder."""


class ClusterError(ConfigError):
    """The cluster cannot be used: unreachable, or its workers run other versions."""


class DataError(DistemError, ValueError):
    """The data is wrong: missing, damaged, or not what the config says it is."""

    exit_code = 3


class DamagedChunkError(DataError):
    """The bytes of a stored chunk cannot be decoded."""


class FitError(DistemError, ValueError):
    """The fit failed: no answer can be given for this data and model."""

    exit_code = 4


class NotConvergedError(FitError):
    """The fit stopped before it converged and ``fit.require_convergence`` is set."""


class Interrupted(DistemError):  # noqa: N818 -- an ending, not a mistake
    """The run was interrupted with a checkpoint in place: run the same command to go on."""

    exit_code = 75


class Stalled(Interrupted):
    """Nothing got done for so long that it is not waited for any more."""


class AlreadyRunning(Interrupted):
    """Another live process is writing to the same run folder."""


class StoreError(Interrupted):
    """What a run writes to could not be reached, or holds what cannot be read."""


class TooLargeError(StoreError):
    """What was to be read is larger than it can be: it is damaged, or not ours."""
