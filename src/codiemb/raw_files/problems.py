"""Why one row is unusable."""


class Problem(ValueError):
    """Why one row is unusable; the caller adds file and row."""
