"""A page of docs/, read from top to bottom against a running service: once with curl, once with Python.

In both readings people do what the page's HTML comments say (`people.PLAYS`): a page about a recorded call needs one.
What stands in capitals behind a `$` is what an answer before it said.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from masking_client import Client
from pytest_masking.service import Service
from tests.docs.people import PLAYS
from tests.docs.test_readme import requests_of

DISPATCH = "+842471000009"  # of the page about webhooks; here another tenant has it
DOCS = Path(__file__).parents[2] / "docs"
PIECE = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```|^<!-- (?P<play>.*?) -->$", re.MULTILINE | re.DOTALL)


@contextlib.contextmanager
def tenant(service: Service, name: str, *blocks: str) -> Iterator[Service]:
    """Another tenant of the same service, with numbers of its own: for pages that leave something behind."""
    scopes = [
        word for scope in ("sessions", "numbers", "recordings", "disputes", "admin") for word in ("--scope", scope)
    ]
    command = [
        sys.executable,
        "-c",
        "from masking.cli import main; main()",
        "keys",
        "create",
        "--tenant",
        name,
        *scopes,
    ]
    made = subprocess.run([*command, "--config", service.configuration], capture_output=True, text=True, check=True)
    with Client(service.url, made.stdout.strip()) as client:
        if blocks:
            client.add_phone_numbers("default", phone_numbers=[{"phone_number": block} for block in blocks])
        yield dataclasses.replace(service, key=made.stdout.strip(), client=client)


class Page:
    """`dispatch`: the number that stands in for `DISPATCH`. `said`: what each call of a reading with curl answered, by
    method and path as the page spells them."""

    def __init__(self, name: str, service: Service, dispatch: str = DISPATCH) -> None:
        self.service = service
        self.text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
        self.text = self.text.replace(DISPATCH, dispatch)
        self.said: dict[str, Any] = {}
        self.words = {"BASE": service.url, "KEY": service.key}

    def pieces(self, language: str) -> Iterator[str]:
        """The blocks of one language, in their order; what people do in between is done."""
        for piece in PIECE.finditer(self.text):
            if piece["play"]:
                PLAYS[piece["play"]](self.service)
            elif piece["language"] == language:
                yield piece["text"]

    def curl(self) -> dict[str, Any]:
        """Every curl command, as it stands; each must succeed."""
        with httpx2.Client(timeout=10.0) as http:
            for script in self.pieces("sh"):
                for method, url, headers, body in requests_of(script):
                    spelled = {name: self.filled(value) for name, value in headers.items()}
                    answer = http.request(method, self.filled(url), headers=spelled, content=body and self.filled(body))
                    assert answer.is_success, (url, answer.text)
                    kind = answer.headers.get("content-type", "")
                    found = answer.json() if kind.startswith("application/json") else answer.content
                    self.said[f"{method} {url.removeprefix('$BASE/v1/')}"] = found
                    self.learn(found)
        return self.said

    def python(self, folder: Path) -> dict[str, Any]:
        """Every Python block, in one namespace and in a folder where it may write."""
        names: dict[str, Any] = {"BASE": self.service.url, "KEY": self.service.key}
        here = Path.cwd()
        os.chdir(folder)
        try:
            for text in self.pieces("python"):
                exec(compile(text, "<page>", "exec"), names)
        finally:
            os.chdir(here)
            if "client" in names:
                names["client"].close()
        return names

    def filled(self, text: str) -> str:
        return re.sub(r"\$([A-Z]+)", lambda found: self.words[found[1]], text)

    def learn(self, found: Any) -> None:
        """What later commands may need of an answer."""
        if not isinstance(found, dict):
            return
        if "participants" in found:
            self.words["SESSION"] = found["id"]
            self.words["NUMBER"] = found["participants"][0]["proxies"][0]["number"]
            self.words |= {one["role"].upper(): one["id"] for one in found["participants"] if one["role"]}
        elif "grant" in found:
            self.words |= {"DISPUTE": found["id"], "GRANT": found["grant"]}
        elif found.get("id", "").startswith("whk_"):
            self.words["ENDPOINT"] = found["id"]
        elif found.get("data") and found["data"][0].get("id", "").startswith("rec_"):
            self.words["RECORDING"] = found["data"][0]["id"]
