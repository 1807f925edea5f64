"""The published image sets: their files, checksums and mirrors."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class IdxFile:
    """One idx file and its known checksums (hex; 32 digits are md5, 64 are sha256).

    Attributes:
        name: name of the unpacked file; the packed one ends in ``.gz``.
        packed: checksum of the official ``.gz`` file.
        unpacked: checksum of its content, which re-packed copies share.
    """

    name: str
    packed: str
    unpacked: str


@dataclass(frozen=True)
class Source:
    """A published data set in four idx files.

    Attributes:
        name: its name in `load_images` and its folder in the cache.
        title: its name in texts.
        layouts: folders under the user's folder that may hold the files.
        mirrors: addresses of folders that hold the ``.gz`` files, each ending in a slash, tried in turn.
        files: training images, training labels, test images, test labels.
    """

    name: str
    title: str
    layouts: tuple[str, ...]
    mirrors: tuple[str, ...]
    files: tuple[IdxFile, IdxFile, IdxFile, IdxFile]


def has_digest(data: bytes, digest: str) -> bool:
    """Whether `data` has the hex `digest`: md5 if that has 32 digits, sha256 if 64."""
    if len(digest) == 32:
        return hashlib.md5(data, usedforsecurity=False).hexdigest() == digest
    return hashlib.sha256(data).hexdigest() == digest


def recognise(payload: bytes) -> str | None:
    """Say which known file `payload` (unpacked) is: "Fashion-MNIST's t10k-labels-idx1-ubyte", or None."""
    for source in SOURCES.values():
        for file in source.files:
            if has_digest(payload, file.unpacked):
                return f"{source.title}'s {file.name}"
    return None


# The checksums of MNIST were computed from the official files; those of Fashion-MNIST are the ones that
# public projects which use it agree on.
_MNIST = Source(
    name="mnist",
    title="MNIST",
    layouts=("mnist", ".", "MNIST/raw"),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    files=(
        IdxFile(
            "train-images-idx3-ubyte",
            packed="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            unpacked="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        IdxFile(
            "train-labels-idx1-ubyte",
            packed="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            unpacked="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        IdxFile(
            "t10k-images-idx3-ubyte",
            packed="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            unpacked="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte",
            packed="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            unpacked="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
)

_FASHION_MNIST = Source(
    name="fashion-mnist",
    title="Fashion-MNIST",
    layouts=("fashion-mnist", "FashionMNIST/raw"),  # no ".": MNIST's files bear the same names
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    files=(
        IdxFile(
            "train-images-idx3-ubyte",
            packed="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            unpacked="f4a8712d7a061bf5bd6d2ca38dc4d50a",
        ),
        IdxFile(
            "train-labels-idx1-ubyte",
            packed="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            unpacked="9018921c3c673c538a1fc5bad174d6f9",
        ),
        IdxFile(
            "t10k-images-idx3-ubyte",
            packed="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            unpacked="8181f5470baa50b63fa0f6fddb340f0a",
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte",
            packed="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            unpacked="15d484375f8d13e6eb1aabb0c3f46965",
        ),
    ),
)

SOURCES: dict[str, Source] = {source.name: source for source in (_MNIST, _FASHION_MNIST)}
