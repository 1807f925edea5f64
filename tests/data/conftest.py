"""A tiny data set in MNIST's format, a loopback mirror to serve it, and tests cut off from the user."""

import gzip
import hashlib
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from gradnoise.data import images
from gradnoise.data.sources import SOURCES, IdxFile, Source

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class TinySet:
    """Twelve training and five test images; `payloads` are unpacked, `packed` gzip."""

    arrays: dict[str, np.ndarray]
    payloads: dict[str, bytes] = field(default_factory=dict)
    packed: dict[str, bytes] = field(default_factory=dict)

    @staticmethod
    def encode(array: np.ndarray) -> bytes:
        header = struct.pack(f">{1 + array.ndim}i", 0x800 | array.ndim, *array.shape)
        return header + array.astype(np.uint8).tobytes()

    def source(self, *mirrors: str) -> Source:
        files = tuple(
            IdxFile(
                name,
                packed=hashlib.sha256(self.packed[name]).hexdigest(),
                unpacked=hashlib.md5(self.payloads[name]).hexdigest(),
            )
            for name in NAMES
        )
        assert len(files) == 4
        return Source("mnist", "Tiny", ("mnist", ".", "MNIST/raw"), mirrors or ("file:///nowhere/",), files)

    def write(self, folder: Path, *, packed: bool = True) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            if packed:
                (folder / f"{name}.gz").write_bytes(self.packed[name])
            else:
                (folder / name).write_bytes(self.payloads[name])
        return folder


@pytest.fixture(scope="session")
def tiny() -> TinySet:
    generator = np.random.default_rng(0)
    arrays = {}
    for name, n in zip(NAMES, (12, 12, 5, 5), strict=True):
        shape, high = ((n, 28, 28), 256) if "images" in name else ((n,), 10)
        arrays[name] = generator.integers(0, high, shape, dtype=np.uint8)
    payloads = {name: TinySet.encode(array) for name, array in arrays.items()}
    return TinySet(arrays, payloads, {name: gzip.compress(data, mtime=0) for name, data in payloads.items()})


@pytest.fixture(autouse=True)
def cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data folder, an empty cache, nothing loaded yet, and no mirror on the network."""
    for variable in ("GRADNOISE_DATA", "GRADNOISE_DATA_UNVERIFIED"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "_loaded", {})
    monkeypatch.setattr(images, "_unreachable", set())
    for name, source in list(SOURCES.items()):
        local = Source(source.name, source.title, source.layouts, ("file:///nowhere/",), source.files)
        monkeypatch.setitem(SOURCES, name, local)


@dataclass
class Mirror:
    """A loopback server. `answers` maps a path to (status, body, promised length); unlisted paths are 404."""

    url: str
    answers: dict[str, tuple[int, bytes, int]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)

    def serve(self, folder: str, files: dict[str, bytes], *, status: int = 200, cut: int = 0) -> str:
        """Serve `files` as .gz in `folder`, each `cut` bytes shorter than promised; returns the address."""
        for name, data in files.items():
            self.answers[f"/{folder}/{name}.gz"] = (status, data[: len(data) - cut], len(data))
        return f"{self.url}/{folder}/"


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.requests.append(self.path)
            if self.path.startswith("/silent/"):
                here.held.wait(10)
            status, body, length = here.answers.get(self.path, (404, b"not here", 8))
            self.send_response(status)
            if not self.path.startswith("/endless/"):
                self.send_header("Content-Length", "some" if self.path.startswith("/unknown/") else str(length))
            if status == 302:
                self.send_header("Location", body.decode())
            self.end_headers()
            if not self.path.startswith("/drips/"):
                self.wfile.write(body)
                return
            with suppress(OSError):  # who asked is gone
                for i in range(len(body)):
                    self.wfile.write(body[i : i + 1])
                    self.wfile.flush()
                    if here.held.wait(0.02):
                        return

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here = Mirror(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield here
        here.held.set()
        server.shutdown()
        thread.join()
