"""What the doctor looks at on this machine: the data folder, the key file, ports, and what the system allows."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from masking.config import Config
from masking.symptoms import Finding, fault, warning, well
from pools.keyring import Keyring, KeyringError

DISK_LEAST: Final = 1 << 30  # bytes: a recorded minute takes 2 MB
FILES_LEAST: Final = 4096  # a call has two legs of two sockets each in the relay
PORTS_LEAST: Final = 100
EVERYWHERE: Final = ("0.0.0.0", "::")
KERNELS_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True)
class Machine:
    """What the system says of itself: bytes free where a folder lies, files a process may have open, and the ports
    that the kernel gives to whoever asks for none."""

    free: Callable[[Path], int]
    files: int
    kernels_ports: tuple[int, int]

    @classmethod
    def here(cls) -> Machine:
        """This one."""
        first, last = KERNELS_PORTS.read_text().split() if KERNELS_PORTS.exists() else ("49152", "65535")
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # what a service may raise it to
        return cls(lambda folder: shutil.disk_usage(folder).free, files, (int(first), int(last)))


def look(config: Config, machine: Machine, *, runs: bool) -> Iterator[Finding]:
    """Everything here, in the order in which a service needs it. `runs`: is it running?"""
    yield from _folder(config, machine)
    yield from _keys(config)
    yield from _limits(machine)
    yield from _listeners(config, runs)
    yield from _media(config, machine)
    yield from _addresses(config)


def _folder(config: Config, machine: Machine) -> Iterator[Finding]:
    there = next(folder for folder in (config.data_dir, *config.data_dir.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        said = f"{there} is no folder that can be written"
        yield fault(2, "disk", said, "give it to the user the service runs as, or change service.data_dir")
        return
    free = machine.free(there)
    said = f"{free / 1e9:.1f} GB free on {there}"
    if free < DISK_LEAST:
        yield warning(1, "disk", said, "make room, or send recordings elsewhere (recordings.url)")
    else:
        yield well("disk", said)


def _keys(config: Config) -> Iterator[Finding]:
    path = config.key_path
    if path.exists():
        try:
            Keyring.load(path)
        except (KeyringError, OSError) as trouble:
            mend = "put back the key file that the data was made with, mode 0600"
            yield fault(3, "keys", str(trouble), mend)
        else:
            yield well("keys", f"{path} can be used")
    elif not config.redis.url and (config.data_dir / "valkey").is_dir() and any((config.data_dir / "valkey").iterdir()):
        yield fault(4, "keys", f"{path} is gone, but there is data made with it", "put the key file back")
    else:
        yield well("keys", f"{path} will be made at the first start")


def _limits(machine: Machine) -> Iterator[Finding]:
    said = f"a process may have {machine.files} files open"
    if 0 <= machine.files < FILES_LEAST:
        mend = f"raise it (ulimit -n, LimitNOFILE=) to {FILES_LEAST} or more: a call takes four"
        yield warning(5, "limits", said, mend)
    else:
        yield well("limits", said if machine.files >= 0 else "any number of files may be open")


def _listeners(config: Config, runs: bool) -> Iterator[Finding]:
    listeners = [("http.listen", socket.SOCK_STREAM, *config.http.address)]
    for one in config.sip.listeners:
        kind = socket.SOCK_DGRAM if one.transport == "udp" else socket.SOCK_STREAM
        listeners.append((f"sip.listen {one.transport}", kind, one.host, one.port))
    for name, kind, host, port in listeners:
        why = _taken(kind, host, port) if port else ""
        free = f"{name}: {host}:{port} is {'free' if not why else why}"
        if bool(why) == runs or not port:
            yield well("ports", f"{name}: {host}:{port} is served" if runs else free)
        elif runs:
            yield fault(6, "ports", free, "look into the service's log for why it does not listen there")
        else:
            yield fault(6, "ports", free, f"end what uses it, or change {name.split()[0]}")


def _taken(kind: socket.SocketKind, host: str, port: int) -> str:
    """Why nobody else could listen there; "" when one could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            return (error.strerror or type(error).__name__).lower()
    return ""


def _media(config: Config, machine: Machine) -> Iterator[Finding]:
    first, last = config.media.port_range
    if last - first < PORTS_LEAST:
        said = f"media.ports: {config.media.ports} is enough for {(last - first + 1) // 4} calls"
        yield warning(7, "ports", said, "widen media.ports: a call takes four, and they rest after it")
    inside = [one.port for one in config.sip.listeners if first <= one.port <= last]
    if config.http.address[1] and first <= config.http.address[1] <= last:
        inside.append(config.http.address[1])
    lowest, highest = machine.kernels_ports
    if inside:
        said = f"media.ports: {config.media.ports} holds port {inside[0]}, which is listened on"
        yield fault(8, "ports", said, "move media.ports away from sip.listen and http.listen")
    elif first <= highest and lowest <= last:
        said = f"media.ports: {config.media.ports} lies in the kernel's own range, {lowest}-{highest}"
        yield warning(8, "ports", said, "move media.ports below it: any program may be given one of these ports")


def _addresses(config: Config) -> Iterator[Finding]:
    for one in config.sip.listeners:
        if one.host.strip("[]") in EVERYWHERE and not config.sip.advertise:
            said = f"sip.listen {one.host}: nobody can tell from it which address carriers reach"
            yield warning(9, "addresses", said, "set sip.advertise (and media.advertise) to the address carriers use")
            return
