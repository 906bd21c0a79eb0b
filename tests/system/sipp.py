"""SIPp as caller and callee: a scenario is put together from steps, so that a test reads as the story it tells.

    caller = phone.calls(x, invite(), hears(180), hears(200), ack(), waits(500), bye(), hears(200))

SIPp checks every message against the step it expects; what a step cannot say is read from the message trace
afterwards.
"""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.conftest import missing_peer

PCMA = """v=0
o=carrier 53655765 2353687637 IN IP4 [media_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 8 101
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
"""
PCMA_STREAMED = PCMA.replace("[media_port]", "[rtpstream_audio_port]")
TRACE_MARK = re.compile(r"^-{40,} .*\n(?:UDP|TCP) message (sent|received) .*\n\n?", re.MULTILINE)

# Ten ports for each SIPp, below the kernel's own choices: one for SIP, and from the fourth on its RTP and RTCP.
# Above 8888..8947, where every SIPp binds a control socket on all addresses.
_ports = itertools.cycle(range(9000, 26000, 10))


def sent(head: str, body: str = "", options: str = "") -> str:
    head = "\n".join(line for line in head.strip().splitlines() if line)
    kind = "Content-Type: application/sdp\n" if body else ""
    return f"<send {options}><![CDATA[\n\n{head}\n{kind}Content-Length: [len]\n\n{body}]]></send>"


def request(method: str, cseq: str, *, uri: str = "[next_url]", to: str = "[peer_tag_param]", extra: str = "") -> str:
    """The head of a request of the caller's dialog."""
    return f"""{method} {uri} SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
{"" if "Max-Forwards" in extra else "Max-Forwards: 70"}
From: <sip:[caller]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>{to}
Call-ID: [call_id]
CSeq: {cseq} {method}
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
{extra}"""


def invite(sdp: str = PCMA, *, extra: str = "", head: str = "", retransmits: bool = True) -> str:
    """The call to `[service]`. `extra`: header lines; `head`: the whole head instead."""
    head = head or request("INVITE", "1", uri="sip:[service]@[remote_ip]:[remote_port]", to="", extra=extra)
    return sent(head, sdp, 'retrans="500"' if retransmits else "")


def hears(code: int, *, optional: bool = False, within: int = 9000, check: str = "") -> str:
    """One response; `check`: `<ereg …/>` actions on it."""
    wait = 'optional="true"' if optional else f'timeout="{within}"'
    routes = 'rrs="true"' if code == 200 or check else ""
    action = f"<action>{check}</action>" if check else ""
    return f'<recv response="{code}" {wait} {routes}>{action}</recv>'


def trying() -> str:
    return hears(100, optional=True)


def ack() -> str:
    return sent(request("ACK", "1"))


def bye(cseq: str = "2") -> str:
    return sent(request("BYE", cseq), options='retrans="500"')


def waits(milliseconds: int) -> str:
    return f'<pause milliseconds="{milliseconds}"/>'


def refusal_ack(cseq: str = "1") -> str:
    """RFC 3261 17.1.1.3: the ACK of a non-2xx answer is part of the INVITE's transaction."""
    return sent(f"""ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
[last_Via:]
Max-Forwards: 70
[last_From:]
[last_To:]
[last_Call-ID:]
CSeq: {cseq} ACK""")


def cancel() -> str:
    """After a provisional answer: its Via is the INVITE's, and so the transaction it ends (RFC 3261 9.1)."""
    return sent(
        """CANCEL sip:[service]@[remote_ip]:[remote_port] SIP/2.0
[last_Via:]
Max-Forwards: 70
From: <sip:[caller]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 CANCEL""",
        options='retrans="500"',
    )


def is_asked(method: str, *, within: int = 9000, optional: bool = False) -> str:
    wait = 'optional="true"' if optional else f'timeout="{within}"'
    routes = 'rrs="true"' if method == "INVITE" else ""
    return f'<recv request="{method}" {wait} {routes}></recv>'


def answers(line: str, sdp: str = "", *, options: str = "", extra: str = "") -> str:
    """`line`: "180 Ringing". The tag goes on To where the request brought none."""
    return sent(
        f"""SIP/2.0 {line}
[last_Via:]
[last_From:]
[last_To:]{"" if line.startswith("200 OK of") else ";tag=[pid]s[call_number]"}
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
{extra}""".replace("200 OK of", "200 OK"),
        sdp,
        options,
    )


def accepts() -> str:
    """200 to a request within the dialog (BYE, CANCEL): its To has our tag already."""
    return sent("""SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]""")


def picks_up(sdp: str = PCMA) -> list[str]:
    return [answers("180 Ringing"), answers("200 OK", sdp, options='retrans="500"'), is_asked("ACK")]


def is_cancelled() -> list[str]:
    """CANCEL and the INVITE's own end, 487."""
    terminated = """SIP/2.0 487 Request Terminated
[last_Via:]
[last_From:]
[last_To:];tag=[pid]s[call_number]
[last_Call-ID:]
CSeq: [last_cseq_number] INVITE"""
    return [is_asked("CANCEL"), accepts(), sent(terminated), is_asked("ACK")]


def callee_bye() -> str:
    """BYE from the phone that was called: its dialog's local party is the To of the INVITE it got."""
    return sent(
        """BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:[local_ip]:[local_port]>;tag=[pid]s[call_number]
To: [$caller]
Call-ID: [call_id]
CSeq: 1 BYE""",
        options='retrans="500"',
    )


def is_invited_and_keeps_caller() -> str:
    """As `is_asked("INVITE")`, keeping From for `callee_bye`."""
    keep = '<ereg regexp=".*" search_in="hdr" header="From:" assign_to="caller"/>'
    return f'<recv request="INVITE" timeout="9000" rrs="true"><action>{keep}</action></recv>'


def plays(raw: Path, loops: int = 20) -> str:
    """Raw A-law from a file over the negotiated stream (`PCMA_STREAMED`)."""
    return f'<nop><action><exec rtp_stream="{raw},{loops},8"/></action></nop>'


@dataclass
class Message:
    """One message of a trace."""

    received: bool
    text: str

    @property
    def start(self) -> str:
        return self.text.partition("\n")[0].strip()

    def header(self, name: str) -> str:
        """The value of the first header of that name, empty when there is none."""
        found = re.search(rf"(?mi)^{name}[ \t]*:[ \t]*(.*?)\s*$", self.text)
        return found[1] if found else ""

    @property
    def body(self) -> str:
        return self.text.replace("\r", "").partition("\n\n")[2].strip()


class Sipp:
    """One running SIPp."""

    def __init__(self, folder: Path, name: str, scenario: list[str], command: list[str]) -> None:
        if not (program := shutil.which("sipp")):
            missing_peer("sipp")
        assert program
        self.stem = folder / f"{name}-{next(_ports)}"
        xml = Path(f"{self.stem}.xml")
        xml.write_text(
            f'<?xml version="1.0" encoding="ISO-8859-1"?>\n<scenario name="{name}">\n{"".join(scenario)}</scenario>'
        )
        files = [
            "-trace_msg",
            "-message_file",
            f"{self.stem}.messages",
            "-trace_err",
            "-error_file",
            f"{self.stem}.errors",
        ]
        with Path(f"{self.stem}.out").open("wb") as out:
            self.process = subprocess.Popen(
                [program, *command, "-sf", str(xml), "-nostdin", *files],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def finish(self, within: float = 20.0) -> list[Message]:
        """Waits until the story is told; an AssertionError with SIPp's own words when it went otherwise."""
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        assert code == 0, f"sipp ended with {code}\n{self.words()}"
        return self.messages()

    def words(self) -> str:
        errors = Path(f"{self.stem}.errors")
        said = (errors if errors.exists() else Path(f"{self.stem}.out")).read_text(errors="replace")[-2500:]
        return said + "\n".join(f"{'<' if m.received else '>'} {m.start}" for m in self.messages())

    def messages(self) -> list[Message]:
        """What was sent and received so far."""
        path = Path(f"{self.stem}.messages")
        if not path.exists():
            return []
        parts = TRACE_MARK.split(path.read_text(errors="replace"))
        return [Message(way == "received", text) for way, text in zip(parts[1::2], parts[2::2], strict=True)]

    def received(self, start: str) -> list[Message]:
        return [m for m in self.messages() if m.received and m.start.startswith(start)]


class Phones:
    """Places SIPp on addresses of a service's place."""

    def __init__(self, folder: Path, edge: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.edge = folder, edge

    def calls(self, dialled: str, address: str, caller: str, *steps: str, port: int = 0, transport: str = "u1") -> Sipp:
        """One call of `caller` (the user part of From) to `dialled`."""
        own = next(_ports)
        port, media = port or own, own + 4
        return Sipp(
            self.folder, "caller", list(steps),
            [f"{self.edge}:5060", "-i", address, "-mi", address, "-mp", str(media), "-p", str(port),
             "-s", dialled, "-key", "caller", caller, "-m", "1",
             "-t", transport, "-timeout", "60", "-timeout_error"],
        )  # fmt: skip

    def waits_for_call(self, address: str, *steps: str, port: int = 5080, calls: int = 1) -> Sipp:
        """A callee; returns once its port is bound."""
        media = next(_ports) + 4
        phone = Sipp(
            self.folder, "callee", list(steps),
            ["-i", address, "-mi", address, "-mp", str(media), "-p", str(port), "-m", str(calls),
             "-timeout", "60", "-timeout_error"],
        )  # fmt: skip
        deadline = time.monotonic() + 5
        while not bound(address, port) and phone.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert bound(address, port), f"the callee does not listen: {phone.words()}"
        return phone


def bound(address: str, port: int) -> bool:
    """Whether a UDP socket is bound there, as /proc/net/udp says it (address in host byte order)."""
    wanted = "".join(f"{int(part):02X}" for part in reversed(address.split("."))) + f":{port:04X}"
    with suppress(OSError):
        return any(line.split()[1] == wanted for line in Path("/proc/net/udp").read_text().splitlines()[1:])
    return False
