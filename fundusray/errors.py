"""The ways a command can end, each with the exit code that the README documents."""


class FundusError(Exception):
    """An error a user can act on: its text says what was given, what is right, what to do."""

    exit_code = 1


class InputError(FundusError, ValueError):
    """A setting, table or file from outside is wrong."""

    exit_code = 2


class NoCheckpointError(FundusError):
    """Checkpoints exist but none verifies; starting over silently would lose a run."""

    exit_code = 3


class DamagedError(FundusError):
    """A file of ours is not what was written; names it, the reason and the cure."""

    exit_code = 3


class DiskError(FundusError):
    """Nothing more can be written; names the path and what is free."""

    exit_code = 4


class BadInputsError(FundusError):
    """More images were refused than `data.max_bad` allows."""

    exit_code = 5


class LockedError(FundusError):
    """Another live process works in the same folder."""

    exit_code = 6
