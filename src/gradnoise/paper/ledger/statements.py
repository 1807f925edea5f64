"""The paper's statements, all of them, in its order and its meaning. Data: what became of each is read elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Statement:
    """One statement of the paper.

    Args:
        id: unique in the project. Claims and contrasts that test it have this id, alone or with parts behind it:
            "T2.1-val/joint".
        section: of the paper.
        system: name of the system that it speaks of; "" for all of them.
        text: the statement.
        figures: as published, "without → with" noise; "" where the paper gives none.
        readings: first parts of ids that stand for ways to read the paper where it leaves something open. Parts that
            are no readings must all hold.
        note: what bears on every comparison with the published figures.
        waits: why there is nothing to judge it by, as long as there is nothing.
    """

    id: str
    section: str
    system: str
    text: str
    figures: str = ""
    readings: tuple[str, ...] = ()
    note: str = ""
    waits: str = ""


TITLES = {
    "abstract": "Abstract and introduction",
    "4.1": "4.1 Very deep fully-connected networks",
    "4.2": "4.2 End-to-end memory networks",
    "4.3": "4.3 Neural Programmer",
    "4.4": "4.4 Neural Random-Access Machines",
    "4.5": "4.5 Convolutional gated recurrent networks (Neural GPU)",
    "4.6": "4.6 Other kinds of noise, small batches, and where noise does not help",
}

MODES = ("joint", "tasks")
#: The paper does not say whether it divides pixels by 255.
PIXELS = ("raw",)
ALL_ROWS = "Judged over every row of every system that has annealed noise beside none."
CHOSEN = (
    "The published errors are of one run, the best of ten by training error; our difference and its interval are those "
    "of the mean over restarts."
)
STAND_INS = (
    "The paper's settings and their baselines are not published; ours solve more lists without noise than the "
    "paper's did."
)
MLP, MEMORY, PROGRAMMER, MACHINE, GPU, LSTM = "deep-mlp", "memn2n", "neural-programmer", "nram", "neural-gpu", "lstm-lm"

STATEMENTS: tuple[Statement, ...] = (
    Statement("abstract-loss", "abstract", "", "Noise can lower the training loss", note=ALL_ROWS),
    Statement(
        "1-rarely",
        "abstract",
        "",
        "Where noise does not help it rarely hurts generalisation significantly",
        note=f"{ALL_ROWS} “Rarely” is read as at most one row in ten.",
    ),
    Statement("T1.1", "4.1", MLP, "Simple Init, no clip: noise raises best and average accuracy",
              "89.9, 43.1 → 96.7, 52.7", PIXELS),
    Statement("T1.1-dropout", "4.1", MLP, "Dropout instead of noise stays near chance",
              "43.1 → 10.8 on average; best 11.3"),
    Statement("T1.2", "4.1", MLP, "Simple Init, clip 100: noise raises best and average accuracy",
              "90.0, 46.3 → 96.7, 52.3", PIXELS),
    Statement("T1.3", "4.1", MLP, "Simple Init, clip 10: noise raises best and average accuracy",
              "95.7, 51.6 → 97.0, 53.6", PIXELS),
    Statement("T1.4", "4.1", MLP, "Sussillo & Abbott's init, clip 10: noise is no help", "97.4, 92.1 → 97.5, 92.2"),
    Statement("T1.5", "4.1", MLP, "He's init, clip 10: noise is no help", "97.4, 91.7 → 97.2, 91.7"),
    Statement("T1.6", "4.1", MLP, "Zero init, clip 10: only with noise does the network learn",
              "11.4, 10.1 → 94.5, 49.7"),
    Statement("4.1-five", "4.1", MLP, "Noise does not improve a network of 5 layers"),
    Statement("4.1-baseline", "4.1", MLP, "Without noise the network learns from Simple Init in part of the runs",
              "averages 43 to 52, best 90 to 96", PIXELS),
    Statement("4.1-clip", "4.1", MLP, "With noise it does not matter whether and where gradients are clipped",
              "52.7, 52.3, 53.6 on average", PIXELS),
    Statement("4.1-tuned", "4.1", MLP, "With a tuned clip the network reaches comparable accuracy without noise",
              "best 95.7 beside 97.0", PIXELS),
    Statement("4.1-slow", "4.1", MLP, "At learning rate 0.01 training is very slow",
              "averages near 50 over both rates", PIXELS),
    Statement("4.1-eta", "4.1", MLP, "Of η = 0.01 and 1.0, η = 0.01 works best"),
    Statement("T2.1-train", "4.2", MEMORY, "One-stage training: noise lowers the training error", "10.5 → 9.6", MODES,
              CHOSEN),
    Statement("T2.1-val", "4.2", MEMORY, "One-stage training: noise lowers the validation error", "19.5 → 16.6", MODES,
              CHOSEN),
    Statement("T2.2-train", "4.2", MEMORY, "Two-stage training: noise lowers the training error", "6.2 → 5.9", MODES,
              CHOSEN),
    Statement("T2.2-val", "4.2", MEMORY, "Two-stage training: noise lowers the validation error", "10.9 → 10.8", MODES,
              CHOSEN),
    Statement("4.2-never", "4.2", "", "Noise helps in all cases and never hurts", "4 of 4", note=ALL_ROWS),
    Statement("4.2-warm", "4.2", MEMORY, "The warm start helps, with noise and without",
              "19.5 → 10.9 without noise, 16.6 → 10.8 with it", MODES, CHOSEN),
    Statement("4.2-most", "4.2", MEMORY, "Noise helps most where there is no warm start", "2.9 beside 0.1 points",
              MODES, CHOSEN),
    Statement("4.2-eta", "4.2", MEMORY, "η = 0.01 works best"),
    Statement("4.3-single", "4.3", PROGRAMMER, "One column: more runs reach 100 % with noise", "1 → 9 of 216"),
    Statement("4.3-seeds", "4.3", PROGRAMMER, "The successful runs cover all three seeds", "3 of 3"),
    Statement("4.3-dropout", "4.3", PROGRAMMER, "With dropout no run reaches 100 %", "0 of 216"),
    Statement("T3.five", "4.3", PROGRAMMER, "Five columns: noise raises the accuracy", "95.3 → 98.7"),
    Statement("T3.text", "4.3", PROGRAMMER, "Text entries: noise raises the accuracy", "97.6 → 98.8"),
    Statement("T3.five-dropout", "4.3", PROGRAMMER, "Five columns with dropout: noise raises the accuracy",
              "97.4 → 99.2"),
    Statement("T3.text-dropout", "4.3", PROGRAMMER, "Text entries with dropout: noise lowers the accuracy",
              "99.1 → 97.3"),
    Statement("4.3-relative", "4.3", PROGRAMMER, "Noise takes away 72 % of the error on a question-answering task",
              "error 4.7 → 1.3"),
    Statement("F2", "4.3", PROGRAMMER, "With noise models nearly always generalise better, at lower training loss",
              "curves of Figure 2"),
    Statement("T4.1", "4.4", MACHINE, "Hyper-1: more runs reach zero error with noise", "1 → 5 of 100", note=STAND_INS),
    Statement("T4.2", "4.4", MACHINE, "Hyper-2: more runs reach zero error with noise", "0 → 22 of 100",
              note=STAND_INS),
    Statement("T4.3", "4.4", MACHINE, "Hyper-3: more runs reach zero error with noise", "3 → 7 of 100", note=STAND_INS),
    Statement("T4.average", "4.4", MACHINE, "On average over the three settings noise lets more runs reach zero error",
              "1.3 → 11.3 %", note=STAND_INS),
    Statement("4.4-order", "4.4", MACHINE, "Noise must be added after the clip, not before"),
    Statement("T5.1", "4.5", GPU, "More models stay below 1 % error with noise", "28 → 58 of 7,290"),
    Statement("T5.2", "4.5", GPU, "More models stay below 2 % error with noise", "90 → 159 of 7,290"),
    Statement("T5.3", "4.5", GPU, "More models stay below 3 % error with noise", "172 → 282 of 7,290"),
    Statement("T5.5", "4.5", GPU, "More models stay below 5 % error with noise", "387 → 570 of 7,290"),
    Statement("4.6-fixed-memn2n", "4.6", MEMORY, "Memory networks: fixed noise of 0.001 does nearly as annealed noise",
              readings=("sd", "variance")),
    Statement("4.6-fixed-np", "4.6", PROGRAMMER, "Neural Programmer: fixed noise, at its best, succeeds less often",
              "5 beside 9 of 216"),
    Statement("4.6-fixed-nram", "4.6", MACHINE, "NRAM: with fixed noise no run reaches zero error",
              "0 of 180 runs a setting", note=STAND_INS),
    Statement("4.6-batch-nram", "4.6", MACHINE, "NRAM: small minibatches do not replace noise",
              "2, 0, 1 of 100 at 50, 25, 10", note=STAND_INS),
    Statement("4.6-batch-np", "4.6", PROGRAMMER, "Neural Programmer: small minibatches do not replace noise",
              "0, 0, 0 of 216"),
    Statement("4.6-weight-nram", "4.6", MACHINE, "NRAM: with noise on the weights no run reaches zero error",
              "lowest error 57 %", note=STAND_INS),
    Statement("4.6-weight-np", "4.6", PROGRAMMER, "Neural Programmer: noise on the weights fails", "lowest error 68 %"),
    Statement("4.6-ptb", "4.6", LSTM, "Language model: noise does not lower the perplexity",
              "95 → 98 (η = 0.01), 95 → 95 (0.001)", ("13", "39")),
    Statement("4.6-ptb-plain", "4.6", LSTM, "Language model without dropout: noise does not lower it either"),
)  # fmt: skip
