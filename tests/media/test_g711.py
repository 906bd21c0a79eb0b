"""G.711: tables that agree with the Recommendation's values, and translation between the laws."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.media import g711
from sipedge.media.plane import CodecName

LAWS: list[CodecName] = ["PCMA", "PCMU"]
CODES = bytes(range(256))


@pytest.mark.parametrize(
    ("codec", "code", "sample"),
    [("PCMA", 0xD5, 8), ("PCMA", 0x55, -8), ("PCMA", 0xAA, 32_256), ("PCMA", 0x2A, -32_256), ("PCMA", 0xC5, 264),
     ("PCMU", 0xFF, 0), ("PCMU", 0x80, 32_124), ("PCMU", 0x00, -32_124), ("PCMU", 0xFE, 8), ("PCMU", 0xEF, 132)],
)  # fmt: skip
def test_known_codes_have_their_known_samples(codec: CodecName, code: int, sample: int) -> None:
    assert array("h", g711.decode(codec, bytes((code,))))[0] == sample


@pytest.mark.parametrize("codec", LAWS)
def test_every_code_survives_its_way_through_pcm(codec: CodecName) -> None:
    back = g711.encode(codec, g711.decode(codec, CODES))
    changed = [code for code in CODES if back[code] != code]
    assert changed == ([] if codec == "PCMA" else [0x7F])  # µ-law's negative zero becomes its zero


@pytest.mark.parametrize("codec", LAWS)
def test_every_sample_becomes_the_nearest_code(codec: CodecName) -> None:
    pcm = array("h", range(-32_768, 32_768))
    back = array("h", g711.decode(codec, g711.encode(codec, pcm.tobytes())))
    known = sorted(g711.SAMPLES[codec])
    for sample, got in list(zip(pcm, back, strict=True))[::97]:
        assert abs(sample - got) == min(abs(sample - one) for one in known)


def test_the_laws_translate_into_each_other_within_a_step() -> None:
    for source, target in (("PCMA", "PCMU"), ("PCMU", "PCMA")):
        table = g711.translation(source, target)
        assert table is not None
        there = array("h", g711.decode(target, CODES.translate(table)))  # type: ignore[arg-type]
        here = array("h", g711.decode(source, CODES))  # type: ignore[arg-type]
        assert all(abs(a - b) <= max(16, abs(a) // 24) for a, b in zip(here, there, strict=True))
    assert g711.translation("PCMA", "PCMA") is None


@pytest.mark.parametrize("codec", LAWS)
def test_silence_is_silent(codec: CodecName) -> None:
    assert g711.encode(codec, bytes(320)) == bytes((g711.SILENCE[codec],)) * 160
    assert abs(array("h", g711.decode(codec, bytes((g711.SILENCE[codec],))))[0]) <= 8


@given(st.binary(max_size=500))
def test_any_bytes_code_and_decode(data: bytes) -> None:
    for codec in LAWS:
        assert len(g711.encode(codec, data)) == len(data) // 2
        assert len(g711.decode(codec, data)) == 2 * len(data)
