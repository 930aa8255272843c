"""Several classifiers as one network: their mean answer, which can be differentiated and explained.

A plain network beside an adversarially trained one keeps much of the first one's accuracy and of
the second one's readable gradients (Boreiko et al. 2022).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fundusray.errors import InputError


class MeanOfNetworks(nn.Module):
    """Images [B, 3, S, S] in [0, 1] to the log of the members' mean softmax, [B, K], whose softmax
    is that mean. It has no layer of its own: what asks for one is to ask a member."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """
        Raises:
            InputError: fewer than two members.
        """
        super().__init__()
        if len(members) < 2:
            raise InputError(f"a mean needs two networks or more, got {len(members)}")
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor) -> Tensor:
        assert not self.training, "a mean of trained networks answers, it does not learn"
        logs = [member(image).float().log_softmax(dim=1) for member in self.members]
        if len({log.shape for log in logs}) > 1:
            widths = ", ".join(str(log.shape[1]) for log in logs)
            raise InputError(f"a mean needs networks of the same classes; these have {widths}")
        # Summed as logarithms: nothing vanishes where a member is sure.
        return torch.logsumexp(torch.stack(logs), dim=0) - math.log(len(logs))
