"""Where data files come from: a folder of the user's, the cache, or a checked download into the cache.

A download is checked in memory, written to a temporary name in its folder, synced and renamed: a file that
bears its final name is whole.
"""

import http.client
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from urllib.response import addinfourl

from gradnoise.errors import DataError, DataNotFoundError
from gradnoise.files import read_bytes, replace_atomically

from . import idx
from .idx import gunzip
from .sources import IdxFile, Source, has_digest, recognise

DATA_VARIABLE = "GRADNOISE_DATA"
UNVERIFIED_VARIABLE = "GRADNOISE_DATA_UNVERIFIED"

ANSWER_SECONDS = 5.0  # look-up, connection and first answer of a mirror: offline machines must go on quickly
STALL_SECONDS = 20.0  # silence in the middle of a download
TOTAL_SECONDS = 900.0  # of a whole download: a server that sends a byte now and then must not keep a study waiting
MAX_BYTES = 64 << 20  # over twice the largest file: a wrong address must not fill the memory
_CHUNK = 1 << 16

Progress = Callable[[str, int, int | None], None]
"""Called during a download as ``progress(file_name, bytes_so_far, bytes_in_all_or_None)``."""


@dataclass(frozen=True)
class Located:
    """Paths of a source's four files, in the order of `Source.files`, and what to do if one is corrupt."""

    paths: tuple[Path, ...]
    remedy: str


def cache_folder(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Folder that downloads are kept in: ``$XDG_CACHE_HOME/gradnoise``, else the platform's usual place.

    Args:
        environ: environment variables.
        platform: as `sys.platform`; "darwin" means ``~/Library/Caches``, any other ``~/.cache``.

    Returns:
        The folder, which need not exist.

    Raises:
        DataNotFoundError: the user has no home folder.
    """
    if chosen := environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "gradnoise"
    try:
        home = Path.home()
    except RuntimeError:
        raise DataNotFoundError(
            f"There is no home folder for data: set XDG_CACHE_HOME, or {DATA_VARIABLE} to a data folder."
        ) from None
    return home / ("Library/Caches" if platform == "darwin" else ".cache") / "gradnoise"


def find_files(
    source: Source, environ: Mapping[str, str], *, progress: Progress | None = None, download: bool = True
) -> Located:
    """Find a source's four files: in ``GRADNOISE_DATA``, else in the cache, else by download to the cache.

    Args:
        source: the data set.
        environ: environment variables.
        progress: told of the bytes downloaded.
        download: False uses only what is on this machine.

    Returns:
        Where the files are. Their content is yet to be checked (`read_payload`): copies may rot on disk.

    Raises:
        DataError: ``GRADNOISE_DATA`` is no folder, or holds some of the files but not all.
        DataNotFoundError: none of the three places has them; the text says how to get them.
    """
    user = user_folder(environ)
    if user is not None and (paths := _find_in_user_folder(source, user)):
        return Located(paths, f"Replace it by the original ({source.mirrors[0]}) or unset {DATA_VARIABLE}.")
    cache = cache_folder(environ) / source.name
    if any(_path_in(cache, file) is None for file in source.files):
        failure = _download_missing(source, cache, progress) if download else "download is switched off"
        if failure:
            raise DataNotFoundError(_how_to_get(source, user, cache, failure))
    paths = tuple(_path_in(cache, file) or cache / file.name for file in source.files)
    return Located(paths, "Delete it: the next run downloads it again.")


def read_payload(file: IdxFile, path: Path) -> tuple[bytes, bool]:
    """Read a local file, unpacked, and compare it with its known checksums.

    Args:
        file: what it should be.
        path: where it is; a name that ends in ``.gz`` is unpacked.

    Returns:
        The unpacked bytes, and whether a checksum matched.

    Raises:
        DataError: unreadable, or called ``.gz`` and not whole gzip.
    """
    try:
        data = read_bytes(path, idx.MAX_BYTES)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from None
    if path.suffix != ".gz":
        return data, has_digest(data, file.unpacked)
    payload = gunzip(data, str(path))
    return payload, has_digest(data, file.packed) or has_digest(payload, file.unpacked)


def mismatch(file: IdxFile, payload: bytes, where: str) -> str:
    """Say that a file that reads well is not the published one, and which one it is if that is known."""
    known = recognise(payload)
    instead = f"it is {known}" if known else "it was changed or comes from another data set"
    return f"{where} does not have the checksum of the published {file.name}: {instead}."


def user_folder(environ: Mapping[str, str]) -> Path | None:
    """The folder that ``GRADNOISE_DATA`` names; None where it names none, an error where it is no folder."""
    chosen = environ.get(DATA_VARIABLE)
    if not chosen:
        return None
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{DATA_VARIABLE} is {chosen!r}, which {problem}: set it to a data folder or unset it.")
    return folder


def _find_in_user_folder(source: Source, user: Path) -> tuple[Path, ...] | None:
    """Paths of the four files in the first layout that has them all; None if no layout has any."""
    partial = None
    for layout in source.layouts:
        found = [_path_in(user / layout, file) for file in source.files]
        paths = tuple(path for path in found if path is not None)
        if len(paths) == len(source.files):
            return paths
        if paths and partial is None:
            lacks = ", ".join(f.name for f, path in zip(source.files, found, strict=True) if path is None)
            partial = f"{user / layout} has {paths[0].name} but lacks {lacks} (with or without .gz)"
    if partial:
        raise DataError(f"{partial}: complete the folder, or unset {DATA_VARIABLE}.")
    return None


def _path_in(folder: Path, file: IdxFile) -> Path | None:
    """The packed file, else the unpacked one; a broken link counts: reading it gives the clear error."""
    candidates = (folder / f"{file.name}.gz", folder / file.name)
    return next((path for path in candidates if os.path.lexists(path)), None)


def _download_missing(source: Source, cache: Path, progress: Progress | None) -> str | None:
    """Complete the cache from the mirrors in turn; None on success, else what went wrong at each."""
    failures = []
    for mirror in source.mirrors:
        try:
            for file in source.files:
                if _path_in(cache, file) is not None:
                    continue
                data = _download(f"{mirror}{file.name}.gz", progress)
                _check_download(file, data)
                try:
                    replace_atomically(cache / f"{file.name}.gz", lambda out, data=data: out.write(data))
                except OSError as error:
                    return f"the cache cannot be written ({error.strerror or error})"
            return None
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{mirror}: {_reason(error)}")
    return f"download failed ({'; '.join(failures)})"


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return str(error).rstrip(".") or type(error).__name__


def _check_download(file: IdxFile, data: bytes) -> None:
    if has_digest(data, file.packed):
        return
    where = f"{file.name}.gz"
    payload = gunzip(data, where)  # a mirror may have packed it anew
    if not has_digest(payload, file.unpacked):
        raise DataError(mismatch(file, payload, where))


def _download(url: str, progress: Progress | None) -> bytes:
    name = url.rpartition("/")[2]
    chunks, done, deadline = [], 0, time.monotonic() + TOTAL_SECONDS
    with _open(url) as response:
        length = response.headers.get("Content-Length")
        total = _length(length, name) if length else None
        while chunk := response.read1(_CHUNK):  # what has come, not all that was asked for: bytes may come one by one
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} was not here after {TOTAL_SECONDS:g} s ({done:,} bytes came)")
            chunks.append(chunk)
            done += len(chunk)
            if done > MAX_BYTES:
                raise DataError(f"{name} is over {MAX_BYTES:,} bytes long")
            if progress is not None:
                progress(name, done, total)
    if total is not None and done != total:
        raise DataError(f"{name} came cut short: {done:,} of {total:,} bytes")
    return b"".join(chunks)


def _length(promised: str, name: str) -> int:
    """Return how many bytes a server promises."""
    if not promised.strip().isdecimal():
        raise DataError(f"{name} comes with a length that is none: {promised!r:.40}")
    if int(promised) > MAX_BYTES:
        raise DataError(f"{name} is {int(promised):,} bytes long; at most {MAX_BYTES:,} are read")
    return int(promised)


def _open(url: str) -> addinfourl:
    """Open `url`, giving up after `ANSWER_SECONDS`.

    In a thread, because a name look-up on a machine without network knows no other bound.
    """
    answer: Future[addinfourl] = Future()

    def work() -> None:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "gradnoise"})
            response = urllib.request.urlopen(request, timeout=STALL_SECONDS)
        except Exception as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            if answer.set_running_or_notify_cancel():
                answer.set_exception(error)
        else:
            if answer.set_running_or_notify_cancel():
                answer.set_result(response)
            else:  # too late: nobody waits any more
                response.close()

    threading.Thread(target=work, daemon=True).start()
    try:
        return answer.result(timeout=ANSWER_SECONDS)
    except TimeoutError:
        if answer.cancel():
            raise TimeoutError(f"no answer within {ANSWER_SECONDS:g} s") from None
        return answer.result()  # it came just now


def _how_to_get(source: Source, user: Path | None, cache: Path, failure: str) -> str:
    if user is None:
        place = f"{DATA_VARIABLE} (not set)"
    else:
        place = f"{DATA_VARIABLE} ({', '.join(str(user / layout) for layout in source.layouts)})"
    names = ", ".join(f"{file.name}.gz" for file in source.files)
    return (
        f"{source.title} is not here. Looked in {place} and in the cache ({cache}); {failure}.\n"
        f"To get it, run once with a network. For a machine without one, fetch {names} from"
        f" {' or '.join(source.mirrors)} into DIR/{source.layouts[0]} and set {DATA_VARIABLE}=DIR, or put"
        f" them into the cache folder. The embedded digits ('digits') need no files."
    )
