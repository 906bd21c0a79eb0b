"""What the tests of the pages are given."""

from tests.boxed import boxed, service

__all__ = ["boxed", "service"]
