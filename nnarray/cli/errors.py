"""What goes wrong at the command line and is told in one line."""


class CommandError(Exception):
    """A mistake in the command or its files; the message is all that a person needs."""
