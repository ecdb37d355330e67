"""Runs `aerie serve` on a free port of 127.0.0.1, for the tests beside this file."""
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("AERIE", ROOT / "build/release/aerie")).resolve()
MODEL = ROOT / "models/SmolLM2-135M-Instruct"
NAME = MODEL.name


class Server:
    def __init__(self, *flags: str, environment: dict | None = None):
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--target", MODEL, *([] if "--port" in flags else ["--port", "0"]), "--json", *map(str, flags)],
            text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(environment or {})})
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.port = json.loads(line)["port"]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> int:
        """SIGTERM, then the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        finally:
            self.process.kill()
        self.process.stdout.close()
        self.errors = self.process.stderr.read()
        self.process.stderr.close()
        return code

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read().decode()

    def metric(self, name: str, labels: str = "") -> float:
        """The sum of the metric's values whose labels contain `labels`."""
        lines = [line for line in self.get("/metrics").splitlines()
                 if line.startswith(name + "{") and labels in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def status(self, key: str) -> int:
        """A number of /proc/PID/status, such as VmRSS (kB) or Threads."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
        raise KeyError(key)

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        made = socket.socket()
        if receive_buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.settimeout(120)
        made.connect(("127.0.0.1", self.port))
        return made

    def send(self, body: bytes | dict, path: str = "/v1/completions", made: socket.socket | None = None):
        """Sends one request over a connection of its own, which it returns."""
        made = made or self.connect()
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n")
        made.sendall(head.encode() + content)
        return made

    def post(self, body: bytes | dict, path: str = "/v1/completions") -> tuple[int, dict]:
        """Status and JSON of one answer."""
        with self.send(body, path) as made:
            return parse(read_all(made))


def read_all(made: socket.socket) -> bytes:
    data = b""
    while more := made.recv(1 << 16):
        data += more
    return data


def parse(data: bytes) -> tuple[int, dict]:
    head, _, body = data.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            whole, body = whole + body[:int(size, 16)], body[int(size, 16) + 2:]
        body = whole
    return int(head.split()[1]), json.loads(body) if body else {}


def wait_for(condition, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
