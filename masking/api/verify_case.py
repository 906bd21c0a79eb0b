"""Checks an exported case, offline: python3 verify_case.py [FOLDER] (the folder this file lies in).

Needs Python 3.9 or newer; with the package `cryptography` the signature of the chain's head is checked as well. What it
shows: every file of the case is the one the manifest names; every event about a recording is the one sealed in the
chain; every recording's sound is the one its `recording.available` event told of; and the chain leads, without a gap,
to a head that the service signed. Compare that head and key with those you kept from the `evidence.checkpoint` events.
"""

from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def faults_of(folder: pathlib.Path) -> Iterator[str]:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            yield f"{name}: is missing"
        elif sha256(path.read_bytes()) != digest:
            yield f"{name}: is not the file that was exported"
    chain = json.loads((folder / "chain.json").read_text(encoding="utf-8"))
    yield from chain_faults(chain)
    yield from event_faults(folder, manifest, {entry["event"]: entry["body_sha256"] for entry in chain["entries"]})
    yield from head_faults(chain)


def chain_faults(chain: dict[str, Any]) -> Iterator[str]:
    before, seq = chain["before"], chain["first"] - 1
    for entry in chain["entries"]:
        seq += 1
        sealed = f"{before}\n{entry['seq']}\n{entry['event']}\n{entry['body_sha256']}"
        if entry["seq"] != seq or sha256(sealed.encode()) != entry["hash"]:
            yield f"chain entry {entry['seq']}: does not follow from the one before"
        before = entry["hash"]
    if chain["head"] is not None and before != chain["head"]["hash"]:
        yield "the chain does not lead to its signed head"


def event_faults(folder: pathlib.Path, manifest: dict[str, Any], sealed: dict[str, str]) -> Iterator[str]:
    files = {row["recording"]: row.get("original", row["file"]) for row in manifest["recordings"]}
    for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["type"] not in manifest["evident"]:
            continue
        if event["id"] not in sealed:
            yield f"event {event['id']}: stands in no chain"
        elif sha256(line.encode()) != sealed[event["id"]]:
            yield f"event {event['id']}: is not what was sealed"
        file = files.get(event["data"].get("recording"))
        if event["type"] == "recording.available" and file is not None and (folder / file).is_file():
            # The original is what was kept; a WAV decoded from it may differ in a bit where another decoder made it.
            kept = event["data"].get("original") or event["data"]
            if sha256((folder / file).read_bytes()) != kept["sha256"]:
                yield f"{file}: is not the sound that was recorded"


def head_faults(chain: dict[str, Any]) -> Iterator[str]:
    head = chain["head"]
    if head is None:
        yield "the chain's head is not signed: export the case again in a minute"
        return
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        sys.stderr.write("signature not checked: install the package cryptography\n")
        return
    said = f"masking evidence checkpoint\n{chain['tenant']}\n{head['seq']}\n{head['hash']}".encode()
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(head["key"]))
        key.verify(base64.b64decode(head["signature"]), said)
    except (InvalidSignature, ValueError):
        yield "the signature of the chain's head does not hold"


def main() -> int:
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
    folder = folder if folder.is_dir() else folder.parent
    faults = list(faults_of(folder))
    for fault in faults:
        sys.stdout.write(fault + "\n")
    sys.stdout.write(f"{len(faults)} faults\n" if faults else "the case is what it was\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
