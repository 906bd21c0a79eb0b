"""SIP as an attacker or a broken stack sends it: valid messages, bent by a seeded die.

`Mutator(seed)` gives the same messages for the same seed, so that a failure can be sent again.
"""

from __future__ import annotations

import random

SDP = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8 0 101\r\n"
    "a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
)
METHODS = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "OPTIONS",
    "PRACK",
    "UPDATE",
    "INFO",
    "REGISTER",
    "MESSAGE",
    "REFER",
    "FOO",
]
STATUSES = ["100 Trying", "180 Ringing", "183 Session Progress", "200 OK", "302 Moved", "401 Unauthorized", "487 End",
            "503 Busy", "699 ?"]  # fmt: skip
NUMBERS = ["0", "-1", "1", "2147483648", "4294967296", "18446744073709551616", "9" * 40, "1e9", "0x10", "٣", ""]
TEXTS = ["", " ", "\0", "\x80\xff", "%00", "%0d%0aVia: x", "\r\n ", "\n", "<", ">", '"', "\\", "🦊", "A" * 300,
         "a" * 9000, ";" * 200, "," * 200, "<" * 100, "../" * 20, "%n%s%x", "sip:" * 50, "[::1]",
         "[", "tel:+1;ext=2"]  # fmt: skip


class Mutator:
    """An endless supply of bent messages to `host` (the edge) from `source`, for numbers of `users`."""

    def __init__(self, seed: int, host: str, source: str, users: list[str]) -> None:
        self.dice = random.Random(seed)
        self.seed = seed
        self.host, self.source, self.users = host, source, users
        self.count = 0

    def valid(self) -> bytes:
        """A well-formed request or response, most of them INVITE."""
        self.count += 1
        dice, branch = self.dice, f"z9hG4bKm{self.count}x{self.dice.randrange(1 << 30)}"
        method = dice.choice(METHODS) if dice.random() < 0.6 else "INVITE"
        user, caller = dice.choice(self.users), dice.choice(self.users)
        first = f"{method} sip:{user}@{self.host}:5060 SIP/2.0"
        if dice.random() < 0.2:
            first = f"SIP/2.0 {dice.choice(STATUSES)}"
        body = SDP.format(host=self.source) if method in ("INVITE", "UPDATE") and dice.random() < 0.8 else ""
        lines = [
            first,
            f"Via: SIP/2.0/UDP {self.source}:5060;branch={branch};rport",
            f"Max-Forwards: {dice.randrange(71)}",
            f"From: <sip:{caller}@{self.source}>;tag=f{self.count}",
            f"To: <sip:{user}@{self.host}>" + (f";tag=t{self.count}" if dice.random() < 0.3 else ""),
            f"Call-ID: {self.seed}m{dice.randrange(2000) if dice.random() < 0.3 else self.count}@{self.source}",
            f"CSeq: {dice.randrange(1, 5)} {method}",
            f"Contact: <sip:{caller}@{self.source}:5060>",
            "Supported: timer, 100rel",
            *(["Session-Expires: 1800;refresher=uac"] if dice.random() < 0.3 else []),
            *([f"P-Asserted-Identity: <sip:{caller}@x>"] if dice.random() < 0.3 else []),
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def message(self) -> bytes:
        """One bent message, at most what a datagram holds."""
        data = self.valid()
        for _ in range(self.dice.choice((0, 1, 1, 2, 3, 8))):
            data = self.dice.choice(BENDS)(self, data)
        return data[:65000]

    # --- the bends

    def flip_bytes(self, data: bytes) -> bytes:
        bent = bytearray(data)
        for _ in range(self.dice.randrange(1, 12)):
            if bent:
                bent[self.dice.randrange(len(bent))] = self.dice.randrange(256)
        return bytes(bent)

    def cut_short(self, data: bytes) -> bytes:
        return data[: self.dice.randrange(len(data) + 1)]

    def repeat_a_piece(self, data: bytes) -> bytes:
        start = self.dice.randrange(len(data) + 1)
        piece = data[start : start + self.dice.randrange(1, 200)]
        return data[:start] + piece * self.dice.choice((2, 3, 40)) + data[start:]

    def drop_a_piece(self, data: bytes) -> bytes:
        start = self.dice.randrange(len(data) + 1)
        return data[:start] + data[start + self.dice.randrange(1, 60) :]

    def with_lines(self, data: bytes) -> tuple[list[bytes], bytes, bytes]:
        head, gap, body = data.partition(b"\r\n\r\n")
        return head.split(b"\r\n"), gap, body

    def shuffle_lines(self, data: bytes) -> bytes:
        lines, gap, body = self.with_lines(data)
        rest = lines[1:]
        self.dice.shuffle(rest)
        return b"\r\n".join(lines[:1] + rest) + gap + body

    def drop_a_line(self, data: bytes) -> bytes:
        lines, gap, body = self.with_lines(data)
        lines.pop(self.dice.randrange(len(lines)))
        return b"\r\n".join(lines) + gap + body

    def repeat_a_line(self, data: bytes) -> bytes:
        lines, gap, body = self.with_lines(data)
        line = self.dice.choice(lines)
        return b"\r\n".join(lines + [line] * self.dice.choice((1, 2, 30, 500))) + gap + body

    def change_a_value(self, data: bytes) -> bytes:
        lines, gap, body = self.with_lines(data)
        at = self.dice.randrange(len(lines))
        name, colon, _ = lines[at].partition(b":")
        value = self.dice.choice(TEXTS + NUMBERS).encode()
        lines[at] = name + self.dice.choice((colon, b" :", b"\t:", b"")) + b" " + value
        return b"\r\n".join(lines) + gap + body

    def change_a_number(self, data: bytes) -> bytes:
        places = [at for at, byte in enumerate(data) if 0x30 <= byte <= 0x39]
        if not places:
            return data
        at = self.dice.choice(places)
        return data[:at] + self.dice.choice(NUMBERS).encode() + data[at + 1 :]

    def insert_text(self, data: bytes) -> bytes:
        at = self.dice.randrange(len(data) + 1)
        return data[:at] + self.dice.choice(TEXTS).encode() + data[at:]

    def lie_about_the_length(self, data: bytes) -> bytes:
        lines, gap, body = self.with_lines(data)
        lines = [line for line in lines if not line.lower().startswith(b"content-length")]
        lines.append(self.dice.choice((b"Content-Length: ", b"l:")) + self.dice.choice(NUMBERS).encode())
        return b"\r\n".join(lines) + gap + body

    def fold_a_line(self, data: bytes) -> bytes:
        return data.replace(b";", b"\r\n ;" * self.dice.choice((1, 50)), 1)

    def other_line_ends(self, data: bytes) -> bytes:
        return data.replace(b"\r\n", self.dice.choice((b"\n", b"\r", b"\n\n", b"\r\r\n", b"\0")))

    def splice(self, data: bytes) -> bytes:
        other = self.valid()
        return data[: self.dice.randrange(len(data) + 1)] + other[self.dice.randrange(len(other)) :]

    def noise(self, data: bytes) -> bytes:
        return self.dice.randbytes(self.dice.randrange(1500))


BENDS = [
    Mutator.flip_bytes, Mutator.cut_short, Mutator.repeat_a_piece, Mutator.drop_a_piece, Mutator.shuffle_lines,
    Mutator.drop_a_line, Mutator.repeat_a_line, Mutator.change_a_value, Mutator.change_a_number, Mutator.insert_text,
    Mutator.lie_about_the_length, Mutator.fold_a_line, Mutator.other_line_ends, Mutator.splice, Mutator.noise,
]  # fmt: skip
