"""The floors of docs/architecture.md, read from the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOMES = {"masking_client": "sdk"}  # rooms that do not stand at the root: distributions of their own

# room -> rooms of ours it may import. The longest matching prefix names the room a module belongs to.
FLOORS: dict[str, set[str]] = {
    "pools": set(),
    "recordings": set(),
    "sipedge.sip": set(),
    "sipedge.media": set(),
    "masking": {"pools"},
    "masking.api": {"masking", "pools", "recordings"},
    "masking.courier": {"masking", "pools", "recordings"},
    "sipedge": {"masking", "recordings", "sipedge.sip", "sipedge.media"},
    "sipedge.relay": {"sipedge.media", "recordings"},
    "sipedge.softphone": {"sipedge.sip", "sipedge.media"},
    "masking_client": set(),
    "pytest_masking": {"masking_client", "sipedge.softphone"},
    "loadtests": {"sipedge.sip", "sipedge.media", "sipedge.softphone"},
}


def room_of(module: str) -> str | None:
    rooms = [room for room in FLOORS if module == room or module.startswith(room + ".")]
    return max(rooms, key=len, default=None)


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports of ours are absolute"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def modules() -> list[Path]:
    tops = {room.split(".")[0] for room in FLOORS}
    return sorted(p for top in tops for p in (ROOT / HOMES.get(top, "") / top).rglob("*.py"))


def breaches(path: Path) -> list[str]:
    home = next((ROOT / home for home in HOMES.values() if path.is_relative_to(ROOT / home)), ROOT)
    module = ".".join(path.relative_to(home).with_suffix("").parts).removesuffix(".__init__")
    room = room_of(module)
    assert room is not None, f"{path} belongs to no room"
    reached = {(name, room_of(name)) for name in imports_of(path)}
    allowed = FLOORS[room] | {room}
    # `from masking import x` also reads as module `masking.x`; a sub-room reached that way is caught by its own name.
    return [f"{module} ({room}) imports {name} ({to})" for name, to in reached if to is not None and to not in allowed]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_the_rooms_its_floor_allows(path: Path) -> None:
    assert breaches(path) == []


def test_an_edge_loads_no_sql() -> None:
    """It has no archive, and every edge worker would pay for the library."""
    code = "import sys, sipedge.edge; sys.exit(any(name.startswith('sqlalchemy') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_an_import_of_a_higher_floor_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "pools").mkdir()
    planted = tmp_path / "pools" / "leases.py"
    planted.write_text("from masking.sessions import Session\n")
    assert sorted(breaches(planted)) == [
        "pools.leases (pools) imports masking.sessions (masking)",
        "pools.leases (pools) imports masking.sessions.Session (masking)",
    ]
