"""Where the files come from: lookup order, mirrors in turn, and nothing half-written whatever happens."""

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from gradnoise.data import DataError, DataNotFoundError, fetch
from gradnoise.data.fetch import cache_folder, find_files, read_payload

Fixture = Any  # TinySet and Mirror of conftest.py


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "gradnoise" / "mnist"


def names_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def all_packed(tiny: Fixture) -> list[str]:
    return sorted(f"{name}.gz" for name in tiny.packed)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("layout", ["mnist", ".", "MNIST/raw"])
def test_layouts_of_the_user_folder(tiny: Fixture, tmp_path: Path, layout: str, packed: bool) -> None:
    folder = tiny.write(tmp_path / "user" / layout, packed=packed)
    located = find_files(tiny.source(), {"GRADNOISE_DATA": str(tmp_path / "user")}, download=False)
    assert [path.parent.resolve() for path in located.paths] == [folder.resolve()] * 4
    contents = [read_payload(file, path) for file, path in zip(tiny.source().files, located.paths, strict=True)]
    assert contents == [(payload, True) for payload in tiny.payloads.values()]


def test_user_folder_goes_before_the_cache_and_packed_before_unpacked(
    tiny: Fixture, tmp_path: Path, cache: Path
) -> None:
    environ = {"GRADNOISE_DATA": str(tmp_path / "user"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    (tmp_path / "user").mkdir()
    tiny.write(cache, packed=False)
    assert {path.parent for path in find_files(tiny.source(), environ).paths} == {cache}
    tiny.write(tmp_path / "user" / "mnist", packed=False)
    assert {path.suffix for path in find_files(tiny.source(), environ).paths} == {""}
    tiny.write(tmp_path / "user" / "mnist", packed=True)
    located = find_files(tiny.source(), environ)
    assert {path.parent for path in located.paths} == {tmp_path / "user" / "mnist"}
    assert {path.suffix for path in located.paths} == {".gz"}


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_user_folder_that_is_none(tiny: Fixture, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("x")
    problem = {"missing": "does not exist", "file": "is not a folder"}[kind]
    with pytest.raises(DataError, match=f"GRADNOISE_DATA is '{place}', which {problem}: .* unset it") as caught:
        find_files(tiny.source(), {"GRADNOISE_DATA": str(place)})
    assert not isinstance(caught.value, DataNotFoundError)  # or "auto" would fall back in silence


def test_half_a_data_set_is_an_error(tiny: Fixture, tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "user" / "mnist")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"lacks t10k-labels-idx1-ubyte .*complete the folder") as caught:
        find_files(tiny.source(), {"GRADNOISE_DATA": str(tmp_path / "user")})
    assert not isinstance(caught.value, DataNotFoundError)


def test_a_complete_layout_goes_before_half_of_one(tiny: Fixture, tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "mnist")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    tiny.write(tmp_path / "MNIST" / "raw", packed=False)
    located = find_files(tiny.source(), {"GRADNOISE_DATA": str(tmp_path)})
    assert {path.parent for path in located.paths} == {tmp_path / "MNIST" / "raw"}


def test_not_found_says_where_it_looked_and_how_to_get_it(tiny: Fixture, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "user").mkdir()
    environ = {"GRADNOISE_DATA": str(tmp_path / "user"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    source = tiny.source("http://one.invalid/", "http://two.invalid/")
    with pytest.raises(DataNotFoundError) as caught:
        find_files(source, environ, download=False)
    text = str(caught.value)
    for part in (
        tmp_path / "user" / "MNIST/raw",
        cache,
        "switched off",
        *source.mirrors,
        "set GRADNOISE_DATA=",
    ):
        assert str(part) in text
    assert all(f"{name}.gz" in text for name in tiny.packed)


def test_download_from_a_file_address(tiny: Fixture, tmp_path: Path, cache: Path) -> None:
    folder = tiny.write(tmp_path / "mirror")
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    source = tiny.source(folder.as_uri() + "/")
    located = find_files(source, environ)
    assert names_in(cache) == all_packed(tiny)
    assert [path.read_bytes() for path in located.paths] == list(tiny.packed.values())
    assert find_files(tiny.source("file:///gone/"), environ) == located  # from now on without the mirror


def test_progress_counts_every_byte(tiny: Fixture, mirror: Fixture, tmp_path: Path) -> None:
    seen: dict[str, list[tuple[int, int | None]]] = {}
    find_files(
        tiny.source(mirror.serve("good", tiny.packed)),
        {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        progress=lambda name, done, total: seen.setdefault(name, []).append((done, total)),
    )
    assert sorted(seen) == all_packed(tiny)
    for name, data in tiny.packed.items():
        calls = seen[f"{name}.gz"]
        assert calls == sorted(calls)
        assert calls[-1] == (len(data), len(data))


def faulty(fault: str, tiny: Fixture, mirror: Fixture) -> str:
    """Address of a mirror that gives nothing usable."""
    match fault:
        case "refused":
            return "http://127.0.0.1:1/"
        case "404":
            return f"{mirror.url}/empty/"
        case "503":
            return mirror.serve("bad", tiny.packed, status=503)
        case "truncated":
            return mirror.serve("bad", tiny.packed, cut=5)
        case "login page":
            return mirror.serve("bad", dict.fromkeys(tiny.packed, b"<!DOCTYPE html><title>Log in</title>"))
        case "other data":
            return mirror.serve("bad", dict.fromkeys(tiny.packed, gzip.compress(b"\0\0\x08\1other")))
        case "silent" | "drips" | "unknown":
            return mirror.serve(fault, tiny.packed)
        case "endless":
            return mirror.serve(fault, dict.fromkeys(tiny.packed, bytes(200_000)))
        case _:
            return mirror.serve("bad", dict.fromkeys(tiny.packed, bytes(200_000)))


FAULTS = {
    "refused": "refused",
    "404": "HTTP Error 404",
    "503": "HTTP Error 503",
    "truncated": "cut short",
    "login page": "web page",
    "other data": "does not have the checksum of the published train-images-idx3-ubyte",
    "silent": "no answer within 0.3 s",
    "drips": "was not here after 0.5 s",
    "unknown": "a length that is none",
    "too long": "200,000 bytes long; at most 100,000 are read",
    "endless": "over 100,000 bytes",
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(fetch, "TOTAL_SECONDS", 0.5)
    monkeypatch.setattr(fetch, "MAX_BYTES", 100_000)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", FAULTS)
def test_the_second_mirror_helps_when_the_first_fails(
    tiny: Fixture, mirror: Fixture, tmp_path: Path, cache: Path, fault: str
) -> None:
    source = tiny.source(faulty(fault, tiny, mirror), mirror.serve("good", tiny.packed))
    located = find_files(source, {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert [path.read_bytes() for path in located.paths] == list(tiny.packed.values())
    assert names_in(cache) == all_packed(tiny)
    first = [path for path in mirror.requests if not path.startswith("/good/")]
    assert len(first) == (fault != "refused")  # one failure is enough to leave a mirror


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", FAULTS)
def test_when_every_mirror_fails_the_reason_is_told_and_nothing_stays(
    tiny: Fixture, mirror: Fixture, tmp_path: Path, cache: Path, fault: str
) -> None:
    source = tiny.source(faulty(fault, tiny, mirror), "file:///nowhere/")
    with pytest.raises(DataNotFoundError) as caught:
        find_files(source, {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert FAULTS[fault] in str(caught.value)
    assert all(f"{address}: " in str(caught.value) for address in source.mirrors)
    assert names_in(cache) == []


@pytest.mark.parametrize("to", ["circle", "file", "program"])
def test_a_mirror_that_sends_elsewhere(tiny: Fixture, mirror: Fixture, tmp_path: Path, to: str) -> None:
    """In a circle for ever, or to what is no address of a download."""
    secret = tmp_path / "secret"
    secret.write_bytes(next(iter(tiny.packed.values())))
    address = {"circle": f"{mirror.url}/circle/", "file": f"file://{secret}", "program": "data:,x"}[to]
    for name in tiny.packed:
        where = f"{address}{name}.gz" if to == "circle" else address
        mirror.answers[f"/circle/{name}.gz"] = (302, where.encode(), len(where))
    with pytest.raises(DataNotFoundError, match="download failed") as caught:
        find_files(tiny.source(f"{mirror.url}/circle/"), {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert "302" in str(caught.value) and len(mirror.requests) < 20 and names_in(tmp_path / "cache") == []


def test_what_one_mirror_gave_is_not_asked_of_the_next(tiny: Fixture, mirror: Fixture, tmp_path: Path) -> None:
    names = list(tiny.packed)
    half = mirror.serve("half", {name: tiny.packed[name] for name in names[:2]})
    find_files(tiny.source(half, mirror.serve("good", tiny.packed)), {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    asked = [path for path in mirror.requests if path.startswith("/good/")]
    assert asked == [f"/good/{name}.gz" for name in names[2:]]


def test_a_copy_packed_anew_is_accepted(tiny: Fixture, mirror: Fixture, tmp_path: Path) -> None:
    anew = {name: gzip.compress(data, 1, mtime=1) for name, data in tiny.payloads.items()}
    assert anew != tiny.packed
    located = find_files(tiny.source(mirror.serve("anew", anew)), {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert read_payload(tiny.source().files[0], located.paths[0]) == (
        next(iter(tiny.payloads.values())),
        True,
    )


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_no_partial_file(
    tiny: Fixture, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*args: object) -> None:
        assert any(name.endswith(".part") for name in names_in(cache))  # not yet under its final name
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch.os, step, fail)
    source = tiny.source(tiny.write(tmp_path / "mirror").as_uri() + "/")
    with pytest.raises(DataNotFoundError, match=r"cache cannot be written \(No space left on device\)"):
        find_files(source, {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert names_in(cache) == []


def test_an_interrupted_write_leaves_no_partial_file(
    tiny: Fixture, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        source = tiny.source(tiny.write(tmp_path / "mirror").as_uri() + "/")
        find_files(source, {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert names_in(cache) == []


def test_a_cache_that_cannot_be_made(tiny: Fixture, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    source = tiny.source(tiny.write(tmp_path / "mirror").as_uri() + "/")
    with pytest.raises(DataNotFoundError, match="cache cannot be written"):
        find_files(source, {"XDG_CACHE_HOME": str(tmp_path / "cache")})


def test_cache_folder_by_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert cache_folder({}, "linux") == Path("/home/ada/.cache/gradnoise")
    assert cache_folder({}, "darwin") == Path("/home/ada/Library/Caches/gradnoise")
    assert cache_folder({"XDG_CACHE_HOME": "/big"}, "darwin") == Path("/big/gradnoise")
