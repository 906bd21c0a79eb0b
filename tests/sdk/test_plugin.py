"""An app's own test suite, run as its developers run it: with the plugin that comes with the service alone."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.service import eventually

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
APP = """
import time

import pytest

from masking_client.problems import ParticipantConflict

CUSTOMER, DRIVER, TOURIST = "+84901234567", "+84907654321", "+66812345678"
BEGAN = time.monotonic()


def open_order(masking, *people, **more):
    return masking.client.open_session(participants=[{"identifier": one} for one in people], **more)


def test_the_customer_reaches_the_driver_and_neither_sees_the_other(masking):
    session = open_order(masking, CUSTOMER, DRIVER, unique_name="order-1")
    customer, driver = session.participants
    call = masking.phone(CUSTOMER).call(customer.proxies[0].number)
    ringing = masking.phone(DRIVER).answer()
    call.answered()
    print("FIRST CALL", time.monotonic() - BEGAN)
    assert ringing.shown == driver.proxies[0].number
    call.say(440)
    ringing.say(600)
    assert ringing.hears(440) and call.hears(600)
    call.hang_up()
    ringing.over()
    ended = masking.webhooks.wait("call.ended", session=session.id)
    assert [event.type for event in masking.webhooks.events if event.session == session.id][0] == "session.opened"
    (interaction,) = masking.client.list_interactions(session.id)
    assert interaction.status == "completed" and CUSTOMER not in str(ended)


def test_a_test_may_change_whatever_it_likes(masking):
    masking.client.change_service("default", out_of_session="pin", intercept_url="http://127.0.0.1:9/", ttl=600)
    masking.client.change_service("default", late_call={"policy": "forward", "forward_to": "+842473009999"})
    masking.client.create_block(scope="number", who={"identifier": DRIVER}, reason="a test")
    masking.client.create_webhook_endpoint(url="http://127.0.0.1:9/")
    open_order(masking, CUSTOMER, DRIVER, unique_name="order-1")


def test_the_next_test_starts_with_nothing_open(masking):
    assert list(masking.client.list_sessions(status="open")) == [] and masking.webhooks.events == []
    service = masking.client.get_service("default")
    assert (service.out_of_session, service.intercept_url, service.ttl) == ("announce", None, 3600)
    assert service.late_call.policy == "announce" and list(masking.client.list_blocks()) == []
    assert len(list(masking.client.list_webhook_endpoints())) == 1
    session = open_order(masking, CUSTOMER, DRIVER, unique_name="order-1")
    assert session.unique_name == "order-1"
    assert masking.webhooks.wait("session.opened").session == session.id


def test_a_driver_who_declines(masking):
    number = open_order(masking, CUSTOMER, DRIVER).participants[0].proxies[0].number
    call = masking.phone(CUSTOMER).call(number)
    masking.phone(DRIVER).ringing().decline()
    with pytest.raises(Exception, match="603"):
        call.answered()


def test_two_countries(masking):
    session = open_order(masking, TOURIST, DRIVER, number_model="per_party")
    tourist, driver = session.participants
    assert tourist.proxies[0].number in masking.numbers["TH"] and driver.proxies[0].number in masking.numbers["VN"]
    call = masking.phone(DRIVER).call(driver.proxies[0].number)
    ringing = masking.phone(TOURIST).answer()
    call.answered()
    assert ringing.shown == tourist.proxies[0].number


def test_nobody_rings_when_the_app_forgot_to_open_a_session(masking):
    call = masking.phone(CUSTOMER).call(masking.numbers["VN"][0])
    with pytest.raises(AssertionError, match="no call came"):
        masking.phone(DRIVER).ringing(timeout=0.5)
    call.over()
    assert call.status == 404
    with pytest.raises(ParticipantConflict):
        open_order(masking, DRIVER, DRIVER)
"""


@pytest.mark.service
@pytest.mark.timeout(120)
async def test_an_apps_own_suite_gets_a_service_with_phones_in_the_box(tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "test_app.py").write_text, APP)
    page = await asyncio.to_thread(PAGE.read_text)
    (snippet,) = re.findall(r"^```python test_orders.py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    await asyncio.to_thread((tmp_path / "test_orders.py").write_text, snippet)
    options = ["-q", "-s", "-W", "error", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, "test_app.py", "test_orders.py"]
    pipe = asyncio.subprocess.PIPE
    suite = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    out = (await suite.communicate())[0].decode()
    assert suite.returncode == 0, out
    assert "8 passed" in out, out
    (first,) = [float(line.split()[-1]) for line in out.splitlines() if "FIRST CALL" in line]
    assert first < 20.0, f"{first:.1f} s, where a machine with nothing else to do needs two"


KILLED = """
import os, pathlib, signal, sys

from pytest_masking.service import running

with running(pathlib.Path(sys.argv[1]), ["VN"]) as service:
    print(service.url, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.service
def test_a_run_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL and run.stdout.startswith("http://"), run.stderr

    def nothing() -> bool:
        return not any(str(tmp_path).encode() in command for command in commands())

    assert eventually(nothing, 10.0, "the end of the service")


def commands() -> Iterator[bytes]:
    """The command lines of all that runs."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()
