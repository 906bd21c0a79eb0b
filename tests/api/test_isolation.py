"""Tenants apart: of every row of the table that names an object, and of every list, read from the table itself.

A row that is new is asked like the others: its body is made from its own schema, and where that does not say enough
(`hints`), the answer is a 422 in the place of the 404.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
import pytest

from masking import sids
from masking.api import openapi
from masking.api.operations import Operation
from masking.api.routes import TABLE
from masking.api.twilio.face import ROWS as FACE
from masking.house import House
from recordings.vault import Vault
from tests.api.belongings import Here, belongings
from tests.api.client import BASE, Client
from tests.api.conftest import CUSTOMER, DRIVER
from tests.api.test_interactions import archived, call
from tests.api.test_recordings import REASON, Shelf

DOCUMENT = openapi.document()
PARAMETER = re.compile(r"\{(\w+)\}")
ID = re.compile(r"\b[a-z]{2,3}_[0-9A-Za-z]{14,}")
# Twilio's face has its own credentials and spellings (and tests).
ROWS = [row for row in TABLE if not row.public and row.handler is not None and not row.endless and row.tag != "twilio"]
OF_AN_OBJECT = [row for row in ROWS if PARAMETER.search(row.path)]
LISTS = [row for row in ROWS if row.method == "GET" and not PARAMETER.search(row.path)]
WORDS = {
    "replacement": {"identifier": "+84903334455"},
    "phone_number": "+842471009999",
    "url": "https://example.com/x",
}


def hints(here: Here) -> dict[str, Any]:
    """What the schema alone does not say, by the field's name."""
    return WORDS | {"participant": here["participant"], "number": here["x"], "phone_numbers": here["x"]}


def said(schema: dict[str, Any], words: dict[str, Any], name: str = "") -> Any:
    """The least that a schema lets through."""
    if "$ref" in schema:
        return said(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]], words, name)
    if name in words and isinstance(words[name], str) == (schema.get("type") == "string"):
        return words[name]
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return said(schema[several][0], words, name)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {one: said(schema["properties"][one], words, one) for one in schema.get("required", [])}
        case "array":
            return [said(schema["items"], words, name) for _ in range(schema.get("minItems", 0))]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return "2030-01-01T00:00:00Z" if schema.get("format") == "date-time" else "words of a test"


async def ask(who: Client, row: Operation, places: Here, here: Here) -> Any:
    path = PARAMETER.sub(lambda match: places[match[1]], row.path)
    operation = DOCUMENT["paths"][row.path][row.method.lower()]
    needed = [one for one in operation.get("parameters", ()) if one["required"]]
    query = {one["name"]: said(one["schema"], hints(here), one["name"]) for one in needed if one["in"] == "query"}
    body = None
    if "requestBody" in operation:
        body = said(operation["requestBody"]["content"]["application/json"]["schema"], hints(here))
    # A DELETE or GET has no body; httpx2 sends `json=None` as none.
    return await who(row.method, path, json=body, params=query, headers=REASON)


def test_every_parameter_of_the_table_is_asked_for() -> None:
    named = {name for row in OF_AN_OBJECT for name in PARAMETER.findall(row.path)}
    assert named <= {"service", "number", "session", "interaction", "recording", "dispute", "block", "endpoint"}
    assert len(OF_AN_OBJECT) > 35 and len(LISTS) > 8


async def test_what_is_one_tenants_is_not_found_by_another_in_any_row_of_the_table(
    api: Client, stranger: Client, house: House, vault: Vault
) -> None:
    shelf = Shelf(house, vault)
    theirs = await belongings(stranger, house, shelf, "other", "+842471000100", archived)
    ours = await belongings(api, house, shelf, "acme", "+842471000000", archived)
    for row in OF_AN_OBJECT:
        names = PARAMETER.findall(row.path)
        for foreign in itertools.product((True, False), repeat=len(names)):
            if any(foreign):
                places = {name: (ours if far else theirs)[name] for name, far in zip(names, foreign, strict=True)}
                answer = await ask(stranger, row, places, ours)
                assert answer.status_code == 404, f"{row.method} {row.path} {places}: {answer.text}"
                assert not any(mine in answer.text for mine in ours.values()), answer.text
    # The same requests are found by their owner: reading first, what ends a thing last.
    order = {"GET": 0, "PATCH": 1, "POST": 2, "DELETE": 3}
    for row in sorted(OF_AN_OBJECT, key=lambda row: order[row.method]):
        answer = await ask(api, row, ours, ours)
        assert answer.status_code != 404, f"{row.method} {row.path} as its owner: {answer.text}"


@pytest.mark.parametrize("row", LISTS, ids=lambda row: row.path)
async def test_no_list_shows_what_is_another_tenants(
    row: Operation, api: Client, stranger: Client, house: House, vault: Vault
) -> None:
    ours = await belongings(api, house, Shelf(house, vault), "acme", "+842471000000", archived)
    seen = (await ask(stranger, row, {}, ours)).text
    assert not any(mine in seen for mine in ours.values()), seen
    assert not set(ID.findall(seen)) & set(ID.findall(msgspec.json.encode(ours).decode()))


# ---- Twilio's face ---------------------------------------------------------------------------------------------------

FACED = [(names, item, method, row) for (names, item), rows in FACE.items() for method, row in rows.items()]
FORM = {"Identifier": "+84903334455", "PhoneNumber": "+842471009999", "Body": "words", "UniqueName": "another"}


@dataclass
class Faced:
    """One tenant on Twilio's face: its credentials, and the SID of one of everything, by its collection."""

    http: httpx2.AsyncClient
    sids: dict[str, str]

    async def ask(self, method: str, path: str, row: Any = None) -> httpx2.Response:
        known = {field.encode_name for field in msgspec.structs.fields(row.form)} if row is not None else set()
        form = {name: value for name, value in FORM.items() if name in known}
        return await self.http.request(method, path, data=form if method == "POST" else None)


async def faced(who: Client, house: House, tenant: str, x: str) -> Faced:
    key = who.http.headers["Authorization"].partition(" ")[2]
    http = httpx2.AsyncClient(transport=who.http._transport, base_url=BASE, auth=("AC" + "0" * 32, key))

    async def made(path: str, form: dict[str, str]) -> str:
        answer = await http.post(path, data=form)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["sid"])

    service = await made("/v1/Services", {"UniqueName": f"rides of {tenant}"})
    here = f"/v1/Services/{service}"
    number = await made(f"{here}/PhoneNumbers", {"PhoneNumber": x})
    session = await made(f"{here}/Sessions", {"UniqueName": f"order of {tenant}"})
    people = [
        await made(f"{here}/Sessions/{session}/Participants", {"Identifier": person}) for person in (CUSTOMER, DRIVER)
    ]
    interaction = await call(house, x, CUSTOMER, house.now() - 60)
    return Faced(
        http,
        {
            "Services": service,
            "PhoneNumbers": number,
            "Sessions": session,
            "Participants": people[0],
            "Interactions": sids.interaction(interaction),
            "MessageInteractions": "KI" + "0" * 32,  # there are never any
        },
    )


async def test_what_is_one_tenants_is_not_found_by_another_in_any_row_of_twilios_face(
    api: Client, stranger: Client, house: House
) -> None:
    ours = await faced(api, house, "acme", "+842471000000")
    theirs = await faced(stranger, house, "other", "+842471000100")
    for names, item, method, row in FACED:
        named = names if item else names[:-1]
        for foreign in itertools.product((True, False), repeat=len(named)):
            if not any(foreign):
                continue
            path = "/v1"
            for place, name in enumerate(names):
                path += f"/{name}"
                if place < len(named):
                    path += "/" + (ours if foreign[place] else theirs).sids[name]
            answer = await theirs.ask(method, path, row)
            assert answer.status_code == 404, f"{method} {path}: {answer.status_code} {answer.text}"
            assert not any(sid in answer.text for sid in ours.sids.values())
    seen = (await theirs.ask("GET", "/v1/Services?PageSize=100")).text
    assert theirs.sids["Services"] in seen and ours.sids["Services"] not in seen
    for name in ("Services", "PhoneNumbers", "Sessions", "Participants", "Interactions"):
        parents = [one for one, *_ in FACED if one[-1] == name][0]
        path = "/v1" + "".join(f"/{one}/{ours.sids[one]}" for one in parents)
        assert (await ours.ask("GET", path)).status_code == 200, "its owner finds it"
