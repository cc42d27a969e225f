"""Tests for a method, of this package or a user's own; see `conformance`. They need pytest, which nothing else does."""

from trainables.testing.suite import conformance

__all__ = ["conformance"]
