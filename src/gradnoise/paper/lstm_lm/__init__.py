"""Section 4.6: the LSTM language model on the Penn Treebank, where noise does not help."""

from gradnoise.paper.lstm_lm.config import Config, Options
from gradnoise.paper.lstm_lm.experiment import LanguageModelExperiment
from gradnoise.paper.lstm_lm.extras import perplexities
from gradnoise.paper.lstm_lm.model import LSTMLanguageModel
from gradnoise.paper.lstm_lm.sample import Sample
from gradnoise.paper.lstm_lm.scales import STUDIES
from gradnoise.paper.lstm_lm.study import CLAIMS, build
from gradnoise.paper.system import System

SYSTEM = System(
    name="lstm-lm",
    title="LSTM language model on the Penn Treebank",
    table="Section 4.6",
    claims=CLAIMS,
    studies=STUDIES,
    build=build,
    data=("ptb", "generated"),
    folder="ptb.train.txt, ptb.valid.txt and ptb.test.txt",
    options=Options,
    length_unit="epochs",
    extras=perplexities,
    commands={"sample": Sample},
    results="lstm_lm",
)

__all__ = ["CLAIMS", "SYSTEM", "Config", "LSTMLanguageModel", "LanguageModelExperiment", "build", "perplexities"]
