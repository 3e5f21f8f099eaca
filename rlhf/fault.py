"""What a user can mend, told apart from what only we can: a ``Fault`` is shown as its message, never as a traceback."""


class Fault(ValueError):
    """Something the user named cannot be used. The message names the key, the value, the rule and the fix."""
