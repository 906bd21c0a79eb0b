"""Ogg/Opus (RFC 6716, 7845), as recordings are kept, and back: a fifth of a WAV's size, to the sample as long.

Both channels go into one stereo stream at 8 kHz and 48 kbit/s, in packets of 60 ms. Where nothing was kept yet a codec
would let the first words ring before they were said, so the file says in a comment how many samples are silence, and
they are made silence again. PyAV (extra `media`) is imported where it is needed first: it is large, and slow to load.

Everything here blocks, and is for worker threads. Errors: `NotDecoded` when a file is no Ogg/Opus of ours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO, Any, Final

from recordings.clocks import RATE
from recordings.render import CHANNELS, wav_head

BIT_RATE: Final = 48_000
FRAME: Final = 2 * CHANNELS
"""Bytes of one sample of both channels."""
KEPT: Final = "MASKING_KEPT"
FRAMES: Final = {"frame_duration": "60"}
"""ms in a packet: as 20 ms sound, at two thirds of the work."""
PAGE: Final = b"OggS"
OPUS_HEAD: Final = b"OpusHead"
GRANULE: Final = struct.Struct("<4sHq")
SKIP: Final = struct.Struct("<10sH")


class NotDecoded(Exception):
    """The file is no recording in Ogg/Opus, or ends early."""


class _Sink:
    """Where the muxer writes; what it wrote is taken away after each piece."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def encoded(pcm: Iterator[bytes], kept: int) -> Iterator[bytes]:
    """The file of stereo PCM16 pieces, each of whole samples. `kept`: samples at the beginning that are silence."""
    import av

    sink, at = _Sink(), 0
    with av.open(sink, "w", format="ogg") as container:
        stream: Any = container.add_stream("libopus", rate=RATE, layout="stereo", options=FRAMES)
        stream.bit_rate = BIT_RATE
        container.metadata[KEPT] = str(kept)
        for piece in pcm:
            samples = len(piece) // FRAME
            frame = av.AudioFrame(format="s16", layout="stereo", samples=samples)
            frame.sample_rate, frame.pts = RATE, at
            frame.planes[0].update(piece.ljust(frame.planes[0].buffer_size, b"\0"))
            at += samples
            container.mux(stream.encode(frame))
            yield sink.take()
        container.mux(stream.encode(None))
    yield sink.take()


def decoded(file: IO[bytes] | Any, samples: int) -> Iterator[bytes]:
    """The WAV of a file: its head, then the sound, exactly `samples` long. `file`: all that is asked of it is `read`.
    `NotDecoded`."""
    import av
    from av.error import FFmpegError

    yield wav_head(samples)
    at = 0
    try:
        with av.open(file, format="ogg") as container:
            kept = int(container.streams.audio[0].metadata.get(KEPT, 0))
            resampler = av.AudioResampler(format="s16", layout="stereo", rate=RATE)
            for frame in _frames(container, resampler):
                sound = bytes(frame.planes[0])[: frame.samples * FRAME]
                if at < kept:
                    silent = min(kept - at, frame.samples) * FRAME
                    sound = bytes(silent) + sound[silent:]
                at += frame.samples
                yield sound
    except (FFmpegError, ValueError, IndexError) as error:
        raise NotDecoded(type(error).__name__) from None
    if at != samples:
        raise NotDecoded(f"{at} samples where {samples} were")


def length(data: bytes) -> int:
    """How many samples a file holds, by its first and its last page: RFC 7845 4 counts them at 48 kHz, with what is to
    be skipped at the beginning. `NotDecoded`."""
    head, last = data.find(OPUS_HEAD), _last_page(data)
    if head < 0 or last + GRANULE.size > len(data):
        raise NotDecoded("no pages of Opus")
    skipped = SKIP.unpack_from(data, head)[1]
    samples, rest = divmod(GRANULE.unpack_from(data, last)[2] - skipped, 48_000 // RATE)
    if samples < 0 or rest:
        raise NotDecoded("its pages do not count its samples")
    return int(samples)


def _last_page(data: bytes) -> int:
    """Where it begins (RFC 3533 6): by its pattern, version 0 and the stream's serial number, which what is encoded may
    hold by chance, but not all of them."""
    serial, at = data[14:18], len(data)
    while (at := data.rfind(PAGE, 0, at)) >= 0:
        if data[at + 4 : at + 5] == b"\0" and data[at + 14 : at + 18] == serial:
            return at
    raise NotDecoded("no pages of this stream")


def _frames(container: Any, resampler: Any) -> Iterator[Any]:
    for frame in container.decode(audio=0):
        yield from resampler.resample(frame)
    yield from resampler.resample(None)
