"""The document as a page for people: rendered here, no script, no asset from anywhere, nothing to go stale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any

from masking.api import openapi
from masking.api.problems import CODES

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:62rem;padding:1rem 1.5rem;color:#1c2430;background:#fff}
h1{margin:.2em 0}h2{margin:2em 0 .4em;border-bottom:1px solid #d8dee6}code,pre{font:13px/1.45 ui-monospace,monospace}
pre{background:#f4f6f9;padding:.7em;overflow:auto;border-radius:4px}details{border:1px solid #d8dee6;border-radius:4px;
margin:.4em 0;padding:.35em .7em}summary{cursor:pointer}table{border-collapse:collapse;width:100%}td,th{text-align:left;
vertical-align:top;padding:.2em .8em .2em 0;border-bottom:1px solid #edf0f4}.verb{display:inline-block;min-width:4.2em;
font-weight:600}.later{color:#8a93a0}nav a{margin-right:.9em}@media(prefers-color-scheme:dark){body{background:#14181e;
color:#d9dee6}pre{background:#1d232c}a{color:#8ab4f8}h2,details,td,th{border-color:#2c3440}}
"""


@cache
def page() -> bytes:
    """The whole page."""
    return "".join(_page(openapi.document())).encode()


def _page(document: dict[str, Any]) -> Iterator[str]:
    title = escape(document["info"]["title"])
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title} API</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><h1>{title} API</h1>'
    yield "".join(f"<p>{escape(part)}</p>" for part in document["info"]["description"].split("\n\n"))
    yield '<nav><a href="/openapi.json">openapi.json</a>'
    tags = [tag["name"] for tag in document["tags"]]
    yield "".join(f'<a href="#{tag}">{tag}</a>' for tag in [*tags, "problems", "types"]) + "</nav>"
    for tag in tags:
        yield f'<h2 id="{tag}">{tag}</h2>'
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag in operation["tags"]:
                    yield from _operation(method, path, operation)
    yield '<h2 id="problems">problems</h2><table>'
    for code, (status, meaning) in CODES.items():
        yield f'<tr id="{code}"><td><code>{code}</code><td>{status}<td>{escape(meaning)}'
    yield '</table><h2 id="types">types</h2>'
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f'<details id="type-{escape(name)}"><summary><code>{escape(name)}</code> '
        yield escape(schema.get("description", "")) + f"</summary>{_json(schema)}</details>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    later = ' class="later"' if operation.get("x-not-implemented") else ""
    yield f'<details{later}><summary><span class="verb">{method.upper()}</span><code>{escape(path)}</code> — '
    yield escape(operation["summary"]) + (" (not built yet)" if later else "") + "</summary>"
    yield f"<p>{escape(operation.get('description', ''))}</p><table>"
    for parameter in operation.get("parameters", ()):
        must = "required" if parameter["required"] else "optional"
        yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}, {must}"
        yield f"<td>{escape(parameter.get('description', ''))} <code>{escape(json.dumps(parameter['schema']))}</code>"
    body = operation.get("requestBody")
    if body:
        yield f"<tr><td>body<td><td>{_type(body['content']['application/json']['schema'])}"
    for status, response in operation["responses"].items():
        kinds = ", ".join(_type(content["schema"]) for content in response.get("content", {}).values())
        yield f"<tr><td>{status}<td>{kinds}<td>{escape(response['description'])}"
    yield "</table>"
    for sample in operation.get("x-codeSamples", ()):
        yield f"<pre><code>{escape(sample['source'])}</code></pre>"
    yield "</details>"


def _type(schema: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    return f'<a href="#type-{escape(name)}">{escape(name)}</a>' if name else escape(str(schema.get("format", "text")))


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
