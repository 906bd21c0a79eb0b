"""An exported case proves itself offline, to somebody without our code, and names whatever was done to it."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from masking.access import SCOPES, create_key
from masking.api.app import App
from masking.api.desk import Desk
from masking.courier.notary import Notary
from masking.events import append_loose
from tests.api.client import Client, problem
from tests.courier.conftest import Round
from tests.courier.tampering import Archive
from tests.courier.test_evidence import kept, session, store

__all__ = ["kept", "session", "store"]  # fixtures


@pytest.fixture
async def api(kept: Archive) -> Client:
    desk = Desk.of(kept.house, kept.vault, time.monotonic)
    return Client(httpx2.ASGITransport(App(desk)), (await create_key(kept.house, "acme", list(SCOPES)))[1])


async def exported(api: Client, kept: Archive, session: str, folder: Path, *, signed: bool = True) -> Path:
    """The case of two recordings, between those of others, unpacked."""
    await append_loose(kept.house, "acme", "dispute.opened", kept.house.now(), {"dispute": "dsp_0", "key": "key_1"})
    await kept.courier.carry()
    await kept.recorded(2, session)
    case = {"session": session, "reason": "rider felt threatened", "requested_by": "anna"}
    dispute = (await api.post("/v1/disputes", case)).json()
    await kept.courier.carry()
    if signed:
        await Notary(kept.house, kept.engine).round()
        await kept.courier.carry()
    answer = await api.get(f"/v1/disputes/{dispute['id']}/export")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder


def verified(folder: Path, *, code: int = 0, options: tuple[str, ...] = ()) -> str:
    words = [sys.executable, *options, str(folder / "verify_case.py")]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=30, check=False, env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


async def test_a_case_holds_sound_timeline_and_proof_and_verifies_offline(
    api: Client, kept: Archive, session: str, tmp_path: Path
) -> None:
    folder = await exported(api, kept, session, tmp_path / "case")
    assert len(list((folder / "recordings").iterdir())) == 2
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert {event["session"] for event in events} == {session}
    assert "what it was" in verified(folder)
    chain = json.loads((folder / "chain.json").read_text())
    assert chain["first"] == 2, "what came before the case is one hash"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {row["shape"]["session"] for row in manifest["recordings"]} == {session}
    heard = [one for one in await kept.house.leases.journal(session) if one.type == "recording.accessed"]
    assert len(heard) == 2 and all(b'"export":true' in one.data for one in heard)


async def test_without_the_package_cryptography_all_but_the_signature_is_checked(
    api: Client, kept: Archive, session: str, tmp_path: Path
) -> None:
    folder = await exported(api, kept, session, tmp_path / "case")
    assert "signature not checked" in verified(folder, options=("-S", "-E"))


def flip(path: Path, offset: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def forget_manifest_digests(folder: Path) -> None:
    """What somebody does who knows the manifest, too."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {}
    path.write_text(json.dumps(manifest))


def other_sound(folder: Path) -> None:
    forget_manifest_digests(folder)
    flip(sorted((folder / "recordings").iterdir())[0])


def other_event(folder: Path) -> None:
    forget_manifest_digests(folder)
    path = folder / "events.jsonl"
    path.write_text(path.read_text().replace('"bytes":640', '"bytes":641', 1))


def event_put_in(folder: Path) -> None:
    forget_manifest_digests(folder)
    path = folder / "events.jsonl"
    path.write_text(path.read_text().replace('"id":"evt_', '"id":"evt_x'))


def entry_dropped(folder: Path) -> None:
    forget_manifest_digests(folder)
    path = folder / "chain.json"
    chain = json.loads(path.read_text())
    del chain["entries"][1]
    path.write_text(json.dumps(chain))


def chain_cut(folder: Path) -> None:
    forget_manifest_digests(folder)
    path = folder / "chain.json"
    chain = json.loads(path.read_text())
    del chain["entries"][-1]
    path.write_text(json.dumps(chain))


def other_signature(folder: Path) -> None:
    forget_manifest_digests(folder)
    path = folder / "chain.json"
    chain = json.loads(path.read_text())
    chain["head"]["signature"] = base64.b64encode(b"x" * 64).decode()
    path.write_text(json.dumps(chain))


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (lambda folder: flip(folder / "interactions.json"), "interactions.json: is not the file"),
        (lambda folder: (folder / "dispute.json").unlink(), "dispute.json: is missing"),
        (other_sound, "is not the sound"),
        (other_event, "is not what was sealed"),
        (event_put_in, "stands in no chain"),
        (entry_dropped, "does not follow"),
        (chain_cut, "does not lead to its signed head"),
        (other_signature, "signature of the chain's head does not hold"),
    ],
)
async def test_whatever_is_done_to_a_case_is_named(
    api: Client, kept: Archive, session: str, tmp_path: Path, tamper: Callable[[Path], None], named: str
) -> None:
    folder = await exported(api, kept, session, tmp_path / "case")
    tamper(folder)
    assert named in verified(folder, code=1)


async def test_a_case_whose_head_is_not_signed_yet_says_so(
    api: Client, kept: Archive, session: str, tmp_path: Path
) -> None:
    folder = await exported(api, kept, session, tmp_path / "case", signed=False)
    assert "not signed" in verified(folder, code=1)


async def test_a_case_is_exported_under_a_grant_alone(api: Client, kept: Archive, session: str, courier: Round) -> None:
    case = {"session": session, "reason": "x", "requested_by": "anna", "approval": "second_person"}
    dispute = (await api.post("/v1/disputes", case)).json()
    problem(await api.get(f"/v1/disputes/{dispute['id']}/export"), 403, "grant_refused")
    only = await create_key(kept.house, "acme", ["disputes"])
    granted = (await api.post("/v1/disputes", case | {"approval": "none"})).json()
    api.http.headers["Authorization"] = f"Bearer {only[1]}"
    problem(await api.get(f"/v1/disputes/{granted['id']}/export"), 403, "insufficient_scope")
