"""`python -m loadtests.fuzz TARGET [--seconds N] [--seed N] [--input FILE]`: coverage-guided fuzzing with atheris.

Targets and seeds are those of `tests.fuzz`. atheris belongs to the dependency group `fuzz` and is installed where its
wheel fits (`scripts/install fuzz`); without it this says so and ends with 3. A crash, an input that costs more than
`SLOW` of CPU in three tries out of three, or more than `MEMORY` leaves its input in `fuzz/TARGET/` and ends with 1;
`--input` repeats one without atheris.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

SLOW = 0.005  # seconds; the tracing that guides the fuzzer costs several times that of the code itself
TRACED = 4.0
MEMORY = 1024  # MiB
LONGEST = 8_192  # bytes of an input
ROOT = Path("fuzz")
NAMES = ("sip", "stream", "sdp", "rtp", "rtcp", "digest", "identity")
MISSING = 3  # the answer where atheris is not installed


class TooSlow(Exception):
    """One input cost more than any may."""


def timed(name: str, data: bytes, limit: float) -> None:
    """Runs the target; `TooSlow` when the best of three tries is above the limit."""
    from tests.fuzz.targets import TARGETS

    for _ in range(3):
        begin = time.thread_time()
        TARGETS[name](data)
        if time.thread_time() - begin < limit:
            return
    raise TooSlow(f"{name}: more than {limit * 1000:.0f} ms for {len(data)} bytes")


def corpus(name: str) -> Path:
    """A folder with the seeds and the words of a target, kept from run to run."""
    from tests.fuzz.seeds import WORDS, seeds_of

    folder = ROOT / name / "corpus"
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds_of(name):
        if len(seed) <= LONGEST:
            (folder / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    words = ['"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in WORDS[name] if len(word) < 60]
    (ROOT / name / "words").write_text("\n".join(words) + "\n")
    return folder


def fuzz(name: str, seconds: int, seed: int) -> None:
    """Never comes back: libFuzzer ends the process itself."""
    import atheris

    with atheris.instrument_imports(include=["sipedge", "masking.numbering"]):
        import tests.fuzz.targets  # noqa: F401 - what is imported here is traced

    folder = corpus(name)
    arguments = [
        sys.argv[0], str(folder), f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={LONGEST}", "-timeout=5",
        f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={ROOT / name}/", f"-dict={ROOT / name / 'words'}",
        "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup(arguments, lambda data: timed(name, data, SLOW * TRACED), enable_python_coverage=True)
    atheris.Fuzz()


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m loadtests.fuzz", description="Coverage-guided fuzzing.")
    arguments.add_argument("target", choices=NAMES)
    arguments.add_argument("--seconds", type=int, default=600)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--input", type=Path, help="run this one input, as often as it takes to time it")
    asked = arguments.parse_args()
    if asked.input is not None:
        timed(asked.target, asked.input.read_bytes(), SLOW)
        return 0
    try:
        import atheris  # noqa: F401 - asked for here, so that its absence is said in one line
    except ImportError:
        version = ".".join(str(part) for part in sys.version_info[:2])
        sys.stderr.write(
            f"atheris is not installed (Python {version}): scripts/install fuzz puts it in where a wheel fits\n"
        )
        return MISSING
    os.environ.setdefault("PYTHONHASHSEED", "0")
    fuzz(asked.target, asked.seconds, asked.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
