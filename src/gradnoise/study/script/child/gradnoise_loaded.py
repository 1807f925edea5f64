"""Writes down which code and configuration a run of `gradnoise compare` loaded, with a hash of each file.

A file counts that lies under the script's folder, the working folder or their repository: modules, and files of
configuration that are opened to be read. Those that the run writes itself are told apart: they are no code. A file that
was changed after the run had loaded it is marked, since nobody knows any more what was loaded.
"""

import atexit
import os
import sys
import time

#: Endings of files that configure a run.
CONFIGURATION = (".yaml", ".yml", ".toml", ".json", ".jsonnet", ".ini", ".cfg", ".gin")
#: Files that are larger than this are data; and of no run are more written down than this.
LARGEST, MOST = 1 << 22, 2000
#: Of each file a line: "read", "late" (changed after it was read) or "written", its hash, and its path.
RECORD = "files.txt"


def install():
    """Watch imports and opened files of this process from now on."""
    atexit.register(Loaded().tell)


class Loaded:
    """Sees what this process loads; keeps times only, so that hashing waits for the end."""

    def __init__(self):
        self.process, self.started, self.folder = os.getpid(), time.time(), os.getcwd()
        self.imported, self.read, self.written = {}, {}, set()
        sys.addaudithook(self.hear)

    def hear(self, event, args):
        """Hear of an import or of a file that is opened or renamed; nothing that happens here may end the run."""
        if event not in ("open", "import", "os.rename"):
            return
        try:
            if event == "import":
                self.imported.setdefault(args[0], time.time())
            elif event == "os.rename":
                self._write(args[1])
            elif _writes(args[1], args[2]):
                self._write(args[0])
            elif os.fspath(args[0]).endswith(CONFIGURATION):
                self.read.setdefault(os.path.abspath(args[0]), time.time())
        except Exception:  # a descriptor, a name in bytes, a folder that is gone
            return

    def _write(self, path):
        if os.fspath(path).endswith((".py", *CONFIGURATION)) and len(self.written) < MOST:
            self.written.add(os.path.abspath(path))

    def tell(self):
        """Write down what was loaded, at the end of the process."""
        if os.getpid() != self.process or os.environ.get("RANK", "0") != "0":
            return
        main = getattr(sys.modules.get("__main__"), "__file__", None)
        roots = {_repository(self.folder), *([_repository(os.path.dirname(os.path.abspath(main)))] if main else [])}
        times = dict(self.read)
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path.endswith(".py"):
                start = self.started if name == "__main__" else self.imported.get(name, float("inf"))
                times[os.path.abspath(path)] = start
        files = {p: t for p, t in times.items() if p not in self.written and any(_is_own(p, root) for root in roots)}
        found = {path: _look(path, when) for path, when in list(files.items())[:MOST]}
        lines = [f"{look} {path}" for path, look in found.items() if look]
        lines += [f"written - {path}" for path in sorted(self.written)]
        record = os.path.join(os.environ["GRADNOISE_RECORDS"], RECORD)
        with open(record, "a", encoding="utf-8", errors="surrogateescape") as file:
            file.write("".join(f"{line}\n" for line in lines if "\n" not in line))


def _writes(mode, flags):
    if mode is not None:
        return any(c in mode for c in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR))


def _repository(folder):
    """Return the folder of the git repository that holds a folder, or else the folder itself."""
    place = folder = os.path.abspath(folder)
    while place != os.path.dirname(place):
        if os.path.exists(os.path.join(place, ".git")):
            return place
        place = os.path.dirname(place)
    return folder


def _is_own(path, root):
    """Tell whether a file is of the script's own: under its root, and of no package, cache or tool."""
    if not path.startswith(os.path.join(root, "")) or path.startswith(os.path.join(os.path.dirname(os.__file__), "")):
        return False
    if path.startswith(os.path.join(os.path.dirname(os.environ["GRADNOISE_RECORDS"]), "")):
        return False  # of this run alone
    parts = path[len(root) :].split(os.sep)
    return not any(p.startswith(".") or p in ("site-packages", "dist-packages", "__pycache__") for p in parts)


def _look(path, when):
    """Return "read" or "late" and the hash of a file; "" for one that is gone or too large."""
    try:
        from _blake2 import blake2b  # pyright: ignore  # without OpenSSL, whose loading would take most of the time
    except ImportError:
        from hashlib import blake2b
    try:
        status = os.stat(path)
        if status.st_size > LARGEST:
            return ""
        with open(path, "rb") as file:
            digest = blake2b(file.read(), digest_size=8).hexdigest()
    except OSError:
        return ""
    return f"{'late' if status.st_mtime > when else 'read'} {digest}"
