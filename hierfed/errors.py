"""The errors that a user can meet: one line each, with the exit code of the command line."""


class HierfedError(Exception):
    """Something the user can put right; the message says what is wrong, where, and what to do."""

    exit_code = 1


class NotPersonalisedError(HierfedError):
    """A node whose users have no models of their own yet (exit code 3)."""

    exit_code = 3


class DataError(HierfedError):
    """The data cannot be used as they are (exit code 2)."""

    exit_code = 2


class SettingsError(HierfedError):
    """A setting is unknown, has the wrong type, or does not fit another one (exit code 2)."""

    exit_code = 2
