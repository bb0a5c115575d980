"""Tests, in rooms as the package has them; what they share is in tests/support."""
