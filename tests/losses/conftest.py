"""Logits, targets and the papers' class counts."""

import pytest
import torch


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(64, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


@pytest.fixture
def target() -> torch.Tensor:
    return torch.arange(64) % 5


@pytest.fixture
def wu() -> tuple[int, ...]:
    """Images per grade of Wu's training split."""
    return (18134, 1710, 3659, 603, 480)
