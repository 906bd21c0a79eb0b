"""What becomes of calls when more come than can be served: the accepted ones, the refused ones, and the time after.

The service runs on the second core as in `loadtests.signalling`; the load comes from the first, at rates that do not
wait for answers. *Saturation* is the highest rate of a ladder at which at least 99 % of the calls are answered, the
*rated* load 60 % of it. Then twice the saturation, ten times the rated load, and the rated load again. The media range
is as wide as it goes: a port rests for half a minute after its call, and here that is many ports.
"""

from __future__ import annotations

import csv
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.goals import alone
from loadtests.measure import Row, quantile, row
from loadtests.signalling import HERE, LOAD_CORE, Peer, ours, quietly
from tests.system.service import Place, take_place

LADDER = (150, 200, 250, 300, 375, 450, 550, 650, 800, 1000, 1250)
RATED = 0.6
MEDIA = "1024-65535"
PAIRS = 3000  # nobody is called twice at once, at any rate offered here
REFUSED = """<recv response="503" optional="true" next="refused" rtd="refusal"/>
  """
END = """<label id="refused"/>
  <send>
    <![CDATA[

ACK @target@ SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:[field0]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[field1]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Content-Length: 0

]]>
  </send>
  <label id="over"/>
</scenario>"""


@dataclass
class Storm:
    """What one run heard: seconds since its start and milliseconds waited, by kind of answer."""

    offered: int
    seconds: float
    failed: int
    answered: list[tuple[float, float]] = field(default_factory=list)
    refused: list[tuple[float, float]] = field(default_factory=list)
    byes: int = 0

    @property
    def goodput(self) -> float:
        """Calls set up a second, while the load lasted."""
        return sum(at <= self.seconds for at, _ in self.answered) / self.seconds

    def p99(self, heard: list[tuple[float, float]]) -> float:
        return quantile([waited for _, waited in heard], 0.99)


def scenario() -> str:
    """The usual call, whose caller also understands a refusal and times every answer."""
    text = (HERE / "uac.xml").read_text()
    send, answer = '<send retrans="500">', '<recv response="200" rrs="true"/>'
    text = text.replace(send, '<nop start_rtd="refusal"/>\n  <send retrans="500" start_rtd="setup">', 1)
    text = text.replace(answer, REFUSED + answer.replace("/>", ' rtd="setup"/>'))
    text = text.replace(send, '<send retrans="500" start_rtd="bye">')
    text = text.replace('<recv response="200"/>', '<recv response="200" rtd="bye" next="over"/>')
    return text.replace("</scenario>", END).replace("@target@", "[next_url]")


@contextmanager
def answering(place: Place, folder: Path) -> Iterator[None]:
    """The phones that are called, for as long as it takes."""
    command = ["taskset", "-c", LOAD_CORE, "sipp", "-nostdin", "-buff_size", "8000000", "-sf", str(HERE / "uas.xml")]
    command += ["-i", place.callee, "-mi", place.callee, "-p", "5080"]
    phones = quietly(command, folder)
    try:
        time.sleep(0.4)
        yield
    finally:
        phones.kill()
        phones.wait()


def storm(peer: Peer, place: Place, rate: float, seconds: float, folder: Path) -> Storm:
    """`rate` calls a second for so long, whatever becomes of them."""
    for left in folder.glob("*_rtt.csv"):
        left.unlink()
    (folder / "overload.xml").write_text(scenario())
    pairs = "".join(f"{caller};{dialled}\n" for caller, dialled in peer.pairs)
    (folder / "pairs.csv").write_text("SEQUENTIAL\n" + pairs)
    offered = round(rate * seconds)
    command = ["taskset", "-c", LOAD_CORE, "sipp", "-nostdin", "-buff_size", "8000000", f"{place.edge}:5060"]
    command += ["-sf", "overload.xml", "-i", place.caller, "-mi", place.caller, "-p", "5070", "-inf", "pairs.csv"]
    command += ["-r", str(max(1, round(rate))), "-m", str(offered), "-l", "60000", "-trace_stat", "-stf", "stat.csv"]
    command += ["-fd", "1", "-trace_rtt", "-rtt_freq", "1", "-timeout", str(round(seconds + 40))]
    quietly(command, folder).wait(seconds + 60)
    with (folder / "stat.csv").open() as file:
        failed = int(list(csv.DictReader(file, delimiter=";"))[-1]["FailedCall(C)"])
    found = Storm(offered, seconds, failed)
    for path in folder.glob("*_rtt.csv"):
        for line in path.read_text().splitlines()[1:]:
            at, waited, kind = re.split(";", line)[:3]
            heard = (float(at) / 1000, float(waited))
            if kind == "bye":
                found.byes += 1
            else:
                (found.answered if kind == "setup" else found.refused).append(heard)
    return found


def recovery(after: Storm) -> float:
    """Seconds until the last refusal after the storm."""
    return max((at for at, _ in after.refused), default=0.0)


def run(*, quick: bool = False) -> list[Row]:
    """The ladder, the two storms, and the calm after."""
    with tempfile.TemporaryDirectory(prefix="masking-overload-") as temporary:
        folder, place = Path(temporary), take_place()
        with ours(folder, place, ports=MEDIA, pairs=PAIRS) as peer, answering(place, folder):
            saturation = climb(peer, place, folder, 2.0 if quick else 5.0)
            rated = RATED * saturation
            double = storm(peer, place, 2 * saturation, 6.0 if quick else 20.0, folder)
            time.sleep(5.0)
            tenfold = storm(peer, place, 10 * rated, 15.0 if quick else 60.0, folder)
            after = storm(peer, place, rated, 12.0, folder)
    served = tenfold.byes / max(len(tenfold.answered), 1)
    return [
        alone("overload-2x", "ms p99 set-up", [double.p99(double.answered)]),
        alone("overload-2x-refusal", "ms p99 to the 503", [double.p99(double.refused)]),
        row("overload-2x-goodput", "calls/s", [double.goodput], "saturation", [float(saturation)]),
        row("overload-10x", "calls/s", [tenfold.goodput], "rated", [rated]),
        alone("overload-10x-byes", "part answered", [served], 4),
        alone("overload-10x-recovery", "s", [recovery(after)]),
    ]


def climb(peer: Peer, place: Place, folder: Path, seconds: float) -> int:
    """The highest rate of the ladder at which at least 99 % are answered."""
    best = LADDER[0]
    for rate in LADDER:
        found = storm(peer, place, rate, seconds, folder)
        if len(found.answered) < 0.99 * found.offered:
            break
        best = rate
    return best
