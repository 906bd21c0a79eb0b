"""A client of the number-masking service: `Client` waits, `AsyncClient` is awaited, `Receiver` knows our webhooks.

    with Client("https://masking.example.com", key) as client:
        session = client.open_session(participants=[{"identifier": "+84901234567"}, {"identifier": "+84907654321"}])
        print("dial", session.participants[0].proxies[0].number)

Needs `httpx2` and `msgspec`, and nothing of the service.
"""

from masking_client import problems
from masking_client.async_client import AsyncClient
from masking_client.client import Client
from masking_client.errors import MaskingError, NotGenuine, Problem, Unreachable, Unreadable
from masking_client.webhooks import Receiver

__all__ = [
    "AsyncClient",
    "Client",
    "MaskingError",
    "NotGenuine",
    "Problem",
    "Receiver",
    "Unreachable",
    "Unreadable",
    "problems",
]
