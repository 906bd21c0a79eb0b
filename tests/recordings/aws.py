"""AWS as moto plays it, in a process of its own on loopback: real clients speak S3 and KMS to it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from itertools import count
from typing import Any

from botocore.session import get_session

NUMBERS = count(1)
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIDTEST",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}
REGION = "ap-southeast-1"
START = "from moto.server import main; import sys; main(sys.argv[1:])"


class Aws:
    """The server; it forgets everything when it stops."""

    region = REGION

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: dict[str, Any] = {}

    def start(self) -> None:
        words = [sys.executable, "-W", "ignore", "-c", START, "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(self.url + "/moto-api/", timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline and self._process.poll() is None, "moto does not start"
                time.sleep(0.05)

    def client(self, service: str) -> Any:
        if service not in self._clients:  # the first takes half a second
            self._clients[service] = get_session().create_client(service, region_name=REGION, endpoint_url=self.url)
        return self._clients[service]

    def bucket(self, name: str | None = None) -> str:
        """A bucket, by default a new one."""
        name = name or f"calls-{next(NUMBERS)}"
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
