"""OpenAPI 3.1, read off the table of routes and the types in it: it cannot say what the service does not do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, get_origin

import msgspec
from msgspec import inspect

from masking.api import problems
from masking.api.operations import NoQuery, Operation, Push, Said
from masking.api.paging import Paged
from masking.api.problems import CODES, Problem
from masking.api.samples import BODIES, samples
from masking.api.validation import item_of, options_of

REF = "#/components/schemas/{name}"
PARAMETER = re.compile(r"\{(\w+)\}")
ABOUT = """\
Sessions of an order, whose people reach each other through virtual numbers only.

Errors are problem+json (RFC 9457) with a stable `code`. Every POST takes an `Idempotency-Key`. Lists answer
`{"data": [...], "next": cursor or null}`. Times are RFC 3339, UTC; numbers E.164. An integer is written without a
fraction. No person's number ever stands in a URL or an answer.

`/v1/Services…` (capital S) is Twilio's Proxy v1, which Twilio's own documents and docs/twilio.md describe.
"""
PATH_PARAMETERS = {
    "service": "The id or unique_name of a service.",
    "number": "The id of a virtual number, or the number itself in E.164.",
    "session": "`ses_…`",
    "interaction": "`int_…`",
    "recording": "`rec_…`",
    "dispute": "`dsp_…`",
    "block": "`blk_…`",
    "endpoint": "`whk_…`",
    "path": "What stands behind.",
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same request gets the same answer for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


@cache
def encoded() -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(_document())


@cache
def document() -> dict[str, Any]:
    """The document as plain dicts and lists, as a reader of the JSON has it."""
    read: dict[str, Any] = msgspec.json.decode(encoded())
    return read


def _document() -> dict[str, Any]:
    from masking.api.routes import TABLE  # the table has a row for this document
    from masking.api.routes.webhooks import PUSHED

    schemas = _Schemas(TABLE, PUSHED)
    paths: dict[str, dict[str, Any]] = {}
    for operation in TABLE:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "masking", "version": version("masking"), "description": ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "webhooks": {push.name: {"post": _pushed(push, schemas)} for push in PUSHED},
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}},
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in TABLE)],
    }


def _pushed(push: Push, schemas: _Schemas) -> dict[str, Any]:
    """What we POST to somebody else, and what is understood of the answer."""
    taken: dict[str, Any] = {"description": "Taken."}
    if push.answer is not None:
        taken["content"] = {"application/json": {"schema": schemas.of(push.answer)}}
    return {
        "summary": push.about,
        "description": "Signed by Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schemas.of(push.body)}}},
        "responses": {"2XX": taken},
    }


def codes_of(operation: Operation) -> list[str]:
    """Every problem code an operation may answer with, from its shape and its own list."""
    codes = [] if operation.public else ["unauthenticated"]
    codes += [] if operation.public else ["rate_limited"]
    if operation.scopes:
        codes.append("insufficient_scope")
    if operation.handler is None:
        return [*codes, "not_implemented", "unavailable", "internal_error"]
    codes += ["malformed_request", "invalid_parameter", "identifier_in_query"]
    if issubclass(operation.query, Paged):
        codes.append("invalid_cursor")
    if "{" in operation.path:
        codes.append("not_found")
    if operation.body is not None:
        codes += ["request_timeout", "body_too_large", "unsupported_media_type", "invalid_request", "unknown_field"]
    if operation.method == "POST":
        codes += ["idempotency_in_flight", "idempotency_conflict"]
    return [*codes, *operation.problems, "internal_error", "unavailable"]


class _Schemas:
    """The types of the table as JSON Schema."""

    def __init__(self, table: Iterable[Operation], pushed: Iterable[Push]) -> None:
        answered: list[Any] = [Problem, *(push.body for push in pushed)]
        asked: list[Any] = [push.answer for push in pushed if push.answer is not None]
        for operation in table:
            answered += [said.type for said in operation.answers.values() if said.type not in (None, bytes, str)]
            asked += [operation.query] if operation.body is None else [operation.query, operation.body]
        said, self.components = _described(answered, answered=True)
        wanted, components = _renamed(*_described(asked, answered=False), self.components)
        self.components |= components
        self._by_type = wanted | said
        for query in {operation.query for operation in table}:
            self.components.pop(_component(query))

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a body, or of an answer: no type is both."""
        if kind is bytes:
            return {"type": "string", "format": "binary"}
        return {"type": "string"} if kind is str else self._by_type[kind]

    def parameters(self, query: type[msgspec.Struct]) -> list[dict[str, Any]]:
        """A query's fields as parameters; what may be left out may not be null in a URL."""
        if query is NoQuery:
            return []
        schema = msgspec.json.schema_components([query], ref_template=REF)[1][_component(query)]
        return [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), **_in_url(field)}
            for name, field in schema["properties"].items()
        ]


Components = dict[str, dict[str, Any]]


def _described(types: Iterable[Any], *, answered: bool) -> tuple[dict[Any, dict[str, Any]], Components]:
    """The schema of each type, and the components they are made of. What msgspec leaves unsaid: times are date-times,
    and an answer always has the fields that have a default."""
    kinds = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
    structs: dict[type[msgspec.Struct], inspect.StructType] = {}
    for kind in kinds:
        _structs(inspect.type_info(kind), structs)
    for struct in structs.values():
        schema = components[_component(struct.cls)]
        for field in struct.fields:
            if any(isinstance(option, inspect.DateTimeType) for option in options_of(field.type)):
                _as_time(schema["properties"][field.encode_name])
        if answered and not (get_origin(struct.cls) or struct.cls).__struct_config__.omit_defaults:
            schema["required"] = [field.encode_name for field in struct.fields]
    return dict(zip(kinds, schemas, strict=True)), components


def _renamed(
    wanted: dict[Any, dict[str, Any]], components: Components, answered: Components
) -> tuple[dict[Any, dict[str, Any]], Components]:
    """What is asked, where a component is answered as well and has more required fields there: `Pin` is asked for as a
    `PinWish`."""
    other = {name for name, schema in components.items() if answered.get(name, schema) != schema}
    while more := {name for name in components.keys() & answered.keys() - other if _mentions(components[name], other)}:
        other |= more
    text = msgspec.json.encode((list(wanted.values()), components)).decode()
    for name in other:
        text = text.replace(f'"{REF.format(name=name)}"', f'"{REF.format(name=name + "Wish")}"')
    schemas, renamed = msgspec.json.decode(text)
    names = {name: name + "Wish" if name in other else name for name in renamed}
    return dict(zip(wanted, schemas, strict=True)), {names[name]: schema for name, schema in renamed.items()}


def _mentions(schema: dict[str, Any], names: Iterable[str]) -> bool:
    text = msgspec.json.encode(schema).decode()
    return any(f'"{REF.format(name=name)}"' in text for name in names)


def _component(struct: type[msgspec.Struct]) -> str:
    """The name msgspec gives a Struct among the components."""
    (schema,), _ = msgspec.json.schema_components([struct], ref_template="{name}")
    return str(schema["$ref"])


def _structs(here: inspect.Type, seen: dict[type[msgspec.Struct], inspect.StructType]) -> Iterable[inspect.StructType]:
    """Every Struct a type is made of."""
    for option in options_of(here):
        if isinstance(option, inspect.StructType) and option.cls not in seen:
            seen[option.cls] = option
            for field in option.fields:
                _structs(field.type, seen)
        inner = item_of(option)
        if inner is not None:
            _structs(inner, seen)
    return seen.values()


def _as_time(schema: dict[str, Any]) -> None:
    for option in schema.get("anyOf", [schema]):
        if option.get("type") == "string":
            option["format"] = "date-time"


def _in_url(field: Mapping[str, Any]) -> dict[str, Any]:
    schema = dict(field)
    if "anyOf" in schema:
        options = [option for option in schema.pop("anyOf") if option.get("type") != "null"]
        schema = {**schema, **options[0]}
    if schema.get("default", 0) is None:
        del schema["default"]
    about = schema.pop("description", None)
    return {"schema": schema} | ({"description": about} if about else {})


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _identity(operation),
        "summary": operation.about,
        "tags": [operation.tag],
        "security": [] if operation.public else [{"key": []}],
        "responses": _responses(operation, schemas),
    }
    if operation.scopes:
        found["description"] = "Scope: " + " or ".join(f"`{scope}`" for scope in operation.scopes) + "."
    if operation.handler is None:
        found["x-not-implemented"] = True
    else:
        found["x-codeSamples"] = samples(operation)
    parameters = _parameters(operation, schemas)
    if parameters:
        found["parameters"] = parameters
    if operation.body is not None:
        content = {"application/json": {"schema": schemas.of(operation.body)}}
        if operation.name in BODIES:
            content["application/json"]["example"] = BODIES[operation.name]
        found["requestBody"] = {"required": operation.body_required, "content": content}
    return found


def _identity(operation: Operation) -> str:
    if operation.name:
        return operation.name
    words = re.sub(r"\W+", "_", operation.path.removeprefix("/v1/")).strip("_")
    return f"{operation.method.lower()}_{words}"


def _parameters(operation: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATH_PARAMETERS[name],
            "schema": {"type": "string"},
        }
        for name in PARAMETER.findall(operation.path)
    ]
    found += schemas.parameters(operation.query)
    found += [
        {
            "name": header.name,
            "in": "header",
            "required": header.required,
            "description": header.about,
            "schema": {"type": "string"},
        }
        for header in operation.headers
    ]
    if operation.method == "POST" and operation.handler is not None:
        found.append(IDEMPOTENCY_KEY)
    return found


def _responses(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    found = {str(status): _success(said, schemas) for status, said in operation.answers.items()}
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes_of(operation)):
        if code == "not_implemented_field":
            by_status.setdefault(422, []).append("not_implemented")
        else:
            by_status.setdefault(CODES[code][0], []).append(code)
    for status, codes in sorted(by_status.items()):
        content = {problems.MEDIA_TYPE: {"schema": schemas.of(Problem)}}
        said = "; ".join(f"`{code}`: {CODES[code][1]}" for code in codes)
        if str(status) in found:  # readyz says 503 in its own words, and in a problem's when it is asked wrongly
            found[str(status)]["content"] |= content
            continue
        found[str(status)] = {"description": f"{HTTPStatus(status).phrase}. {said}.", "content": content}
        headers = _problem_headers(status)
        if headers:
            found[str(status)]["headers"] = headers
    return found


def _success(said: Said, schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {"description": said.about}
    if said.type is not None:
        kinds = (said.media_type, *said.or_media_types)
        found["content"] = {kind: {"schema": schemas.of(said.type)} for kind in kinds}
    if said.headers:
        found["headers"] = {
            header.name: {"description": header.about, "schema": {"type": "string"}} for header in said.headers
        }
    return found


def _problem_headers(status: int) -> dict[str, Any]:
    known = {
        401: ("WWW-Authenticate", "How to authenticate.", "string"),
        429: ("Retry-After", "Seconds until it is worth another try.", "integer"),
        503: ("Retry-After", "Seconds until it is worth another try.", "integer"),
    }
    if status not in known:
        return {}
    name, about, kind = known[status]
    return {name: {"description": about, "schema": {"type": kind}}}
