"""The one exception that is meant for a person."""


class LonghandError(Exception):
    """A user's mistake or an environment's failing, in one line: names the thing and says what to do.

    The command line prints it without a traceback and exits with code 2.
    """
