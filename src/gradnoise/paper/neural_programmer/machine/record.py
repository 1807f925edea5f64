"""What a network remembers of its evaluations: the test accuracy at the first evaluation with the best validation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Record(nn.Module):
    """A buffer [4]: best validation accuracy so far, both test accuracies then, and the best test accuracy ever.

    It travels with the weights and their checkpoints. Evaluating twice changes nothing.
    """

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.tensor([-1.0, 0.0, 0.0, 0.0]))

    def updated(self, valid: Tensor, test: Tensor, test_one: Tensor) -> dict[str, Tensor]:
        """Take in an evaluation, and return the metrics that look back.

        Args:
            valid: validation accuracy in %, 0-dim.
            test, test_one: test accuracies in %, on all tables and on one for each question.
        """
        best, chosen, chosen_one, ever = self.seen.double().unbind()
        better = valid > best
        new = torch.stack(
            [
                torch.maximum(best, valid),
                torch.where(better, test, chosen),
                torch.where(better, test_one, chosen_one),
                torch.maximum(ever, test),
            ]
        ).to(self.seen.dtype)
        self.seen.copy_(new)
        _, accuracy, accuracy_one, ever = new.unbind()
        whole = {"solved": accuracy, "solved_one": accuracy_one, "solved_last": test, "solved_ever": ever}
        found = {name: 100 * (x == 100).to(new.dtype) for name, x in whole.items()}
        return {"accuracy": accuracy, "accuracy_one": accuracy_one, **found}
