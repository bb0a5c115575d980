"""The one exception that means "the user can fix this": shown without a traceback."""


class UserError(Exception):
    """A mistake in the user's configuration or data. Its message says what, where and what to do."""
