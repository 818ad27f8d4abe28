"""z_style: the speaking style of a face, from its identity coefficients α."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StyleEncoder(nn.Module):
    """α → z_style (§3.2 of the paper), a small perceptron.

    Zeros are the average speaker: in training, styles are replaced by zeros at random.

    Args:
        identity_components: I, length of α.
        width: of z_style.
    """

    def __init__(self, identity_components: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(identity_components, width)
        self.out = nn.Linear(width, width)

    def forward(self, id_coefficients: Tensor) -> Tensor:
        """id_coefficients [B, I], standard deviations → style [B, S], within −1..1."""
        return torch.tanh(self.out(torch.tanh(self.hidden(id_coefficients))))
