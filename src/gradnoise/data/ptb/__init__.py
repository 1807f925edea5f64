"""The Penn Treebank, word level (Marcus et al. 1993, prepared by Mikolov et al. 2010): files, ids, stand-in."""

from .chain import Chain, topics_chain
from .load import load_corpus
from .published import PUBLISHED
from .text import EOS, Corpus, encode, read_words, unigram_loss

__all__ = [
    "EOS",
    "PUBLISHED",
    "Chain",
    "Corpus",
    "encode",
    "load_corpus",
    "read_words",
    "topics_chain",
    "unigram_loss",
]
