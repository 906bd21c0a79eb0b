"""What an edge counts, for Prometheus. Labels are words of our own and trunks' names, never a value of a message."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from masking.consultations import Consultant
from sipedge.edge import Edge
from sipedge.media.plane import Measures, PlaneError
from sipedge.shares import Shares
from sipedge.trunks import Trunk

HEAD = b"HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: %d\r\n"
HEAD_LIMIT = 8_192
READ_SECONDS = 5.0

Family = CounterMetricFamily | GaugeMetricFamily


class EdgeCollector(Collector):
    """Reads the edge's own counters when it is asked; nothing is counted twice."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.relay: Measures | None = None

    def collect(self) -> Iterable[Family]:
        edge, exchange = self._edge, self._edge.exchange
        refused = edge.driver.counts + edge.driver.door.counts + edge.driver.floods.counts
        states = Counter(call.state for call in exchange.calls.values())
        yield _gauge("masking_sip_calls", "Calls by state.", "state", states)
        yield _counter("masking_sip_events", "What happened to calls.", "event", exchange.counts)
        yield from consultation_families(exchange.consultant)
        yield _counter("masking_sip_refused", "Requests answered or dropped before they were calls.", "reason", refused)
        yield _counter("masking_sip_wire", "What happened on sockets.", "event", edge.driver.wire.counts)
        yield _gauge(
            "masking_sip_trunk_calls", "Calls by trunk.", "trunk", {t.name: t.calls for t in edge.trunks.trunks}
        )
        yield from trunk_families(edge.trunks.trunks, edge.loop.time())
        yield from tenant_families(edge.shares)
        registered = {name: int(state == "registered") for name, state in edge.registrations.states().items()}
        yield _gauge("masking_sip_trunk_registered", "1 while we are registered there.", "trunk", registered)
        yield GaugeMetricFamily("masking_sip_tcp_connections", "TCP connections.", len(edge.driver.wire.streams))
        yield GaugeMetricFamily(
            "masking_sip_facts_untold", "Calls with facts Redis has not taken.", len(exchange.facts.untold)
        )
        yield GaugeMetricFamily("masking_sip_loop_late_seconds", "How late the event loop was last.", edge.lateness)
        yield GaugeMetricFamily(
            "masking_sip_longest_pause_seconds",
            "The longest that a datagram or a timer waited for the event loop in the last minute or two.",
            edge.pauses.value,
        )
        yield GaugeMetricFamily(
            "masking_sip_longest_collection_seconds",
            "The longest look of the garbage collector since the start.",
            edge.collector.longest,
        )
        yield GaugeMetricFamily("masking_sip_relay_up", "1 while the relay can be asked.", int(edge.plane.up))
        if self.relay is not None:
            yield from relay_families(self.relay)


def consultation_families(consultant: Consultant) -> Iterable[Family]:
    """How apps answer while calls wait for them."""
    asked = CounterMetricFamily(
        "masking_sip_consultations", "Questions to apps about calls, and what came of them.", labels=["type", "outcome"]
    )
    for (kind, outcome), count in sorted(consultant.counts.items()):
        asked.add_metric([kind, outcome], count)
    yield asked
    yield _counter("masking_sip_consultation_seconds", "What calls have waited for apps.", "type", consultant.seconds)
    yield GaugeMetricFamily(
        "masking_sip_receivers_resting", "Apps that are left alone after failures.", consultant.resting
    )


def tenant_families(shares: Shares) -> Iterable[Family]:
    """How tenants that have limits or guarantees use them."""
    calls = {name: share.total for name, share in shares.of.items()}
    yield _gauge("masking_sip_tenant_calls", "Calls of tenants with limits or guarantees.", "tenant", calls)
    refused = CounterMetricFamily(
        "masking_sip_tenant_refused", "Calls beyond a tenant's own limit, by Q.850 cause.", labels=["tenant", "cause"]
    )
    for name, share in shares.of.items():
        for cause, count in sorted(share.refused.items()):
            refused.add_metric([name, cause], count)
    yield refused


def trunk_families(trunks: Iterable[Trunk], now: float) -> Iterable[Family]:
    """How each trunk fares."""
    health = {trunk.name: trunk.health for trunk in trunks}
    states = {name: one.state(now) for name, one in health.items()}
    usable = {name: int(state in ("up", "sick")) for name, state in states.items()}
    yield _gauge("masking_sip_trunk_up", "1 while a trunk takes its share of calls.", "trunk", usable)
    family = GaugeMetricFamily("masking_sip_trunk_state", "1 for the state a trunk is in.", labels=["trunk", "state"])
    attempts = CounterMetricFamily(
        "masking_sip_trunk_attempts", "Calls that left by a trunk, and what came of them.", labels=["trunk", "outcome"]
    )
    for name, one in health.items():
        family.add_metric([name, states[name]], 1)
        for outcome, count in sorted(one.counts.items()):
            attempts.add_metric([name, outcome], count)
    yield family
    yield attempts
    yield _gauge(
        "masking_sip_trunk_answer_ratio", "Answer-seizure ratio, lately.", "trunk",
        {name: one.answer_ratio(now) for name, one in health.items()},
    )  # fmt: skip
    delays = {name: delay for name, one in health.items() if (delay := one.post_dial_delay) is not None}
    yield _gauge("masking_sip_trunk_post_dial_delay_seconds", "From INVITE to ringing, lately.", "trunk", delays)
    rests = {name: one.rest(now) for name, one in health.items()}
    yield _gauge("masking_sip_trunk_rest_seconds", "Until a trunk that sent Retry-After is tried.", "trunk", rests)


def relay_families(relay: Measures) -> Iterable[Family]:
    """What the media plane says of itself."""
    packets = {"received": relay.received, "sent": relay.sent}
    yield _counter("masking_rtp_packets", "RTP packets by way.", "way", packets)
    yield _counter("masking_rtp_refused", "RTP and RTCP packets that went nowhere.", "reason", relay.dropped)
    ports = {"used": relay.ports_used, "resting": relay.ports_resting, "free": relay.ports_free}
    yield _gauge("masking_rtp_ports", "Port pairs by state.", "state", ports)
    yield GaugeMetricFamily("masking_rtp_recordings", "Calls that are being recorded.", relay.recording)
    yield CounterMetricFamily(
        "masking_rtp_recorder_dropped", "Packets the recorder had no room for.", relay.recorder_dropped
    )
    yield GaugeMetricFamily(
        "masking_rtp_late_seconds", "Lateness of the last minute, 99th percentile.", relay.lateness_p99
    )


def _counter(name: str, text: str, label: str, counts: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


async def _media_page(edge: Edge) -> bytes:
    """The relay's own figures; nothing while it cannot be asked."""
    try:
        media = await edge.plane.measure()
    except PlaneError:
        return b""
    registry = CollectorRegistry()
    figures = {
        name: getattr(media, name) for name in ("calls", "ports_used", "ports_resting", "ports_free", "recording")
    }
    packets = {"received": media.received, "sent": media.sent, "recorder_dropped": media.recorder_dropped}
    families: list[Family] = [
        _gauge("masking_media_now", "What the relay holds.", "what", figures),
        _counter("masking_media_packets", "RTP packets.", "what", packets),
        _counter("masking_media_dropped", "Packets that were not let through.", "reason", media.dropped),
        GaugeMetricFamily("masking_media_late_seconds", "Lateness of the relay's timed work, p99.", media.lateness_p99),
    ]
    registry.register(_Families(families))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


async def serve(edge: Edge, path: str) -> asyncio.Server:
    """Answers every request on a unix socket with the counters: `GET /metrics` of `masking.api` reads it there."""
    registry = CollectorRegistry()
    collector = EdgeCollector(edge)
    registry.register(collector)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                await reader.readuntil(b"\r\n\r\n")
                try:
                    collector.relay = await edge.plane.measure()
                except PlaneError:
                    collector.relay = None  # `masking_sip_relay_up` says so
            page = generate_latest(registry) + await _media_page(edge)
            writer.write(HEAD % (b"200 OK", len(page)) + b"Connection: close\r\n\r\n" + page)
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked is gone, or did not ask
        finally:
            writer.close()

    return await asyncio.start_unix_server(answer, path, limit=HEAD_LIMIT)
