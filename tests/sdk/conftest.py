"""What the client's tests are given."""

from tests.boxed import boxed, service

__all__ = ["boxed", "service"]
