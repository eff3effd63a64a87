"""The optimiser of large trainings: against a singular value decomposition and PyTorch's own for matrices."""

import pytest
import torch
from torch import nn

from training.muon import Muon, muon_and_adamw, orthogonalised


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (32, 32)])
def test_singular_values_become_one_and_singular_vectors_stay(shape: tuple[int, int]) -> None:
    """Into 0.7 .. 1.2, where they were spread over a factor of a hundred (in bfloat16, hence the tolerance)."""
    generator = torch.Generator().manual_seed(0)
    U, _, V = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    matrix = U @ torch.diag(torch.logspace(0, -2, min(shape))) @ V
    found = U.mT @ orthogonalised(matrix).float() @ V.mT
    values = found.diagonal()
    assert 0.6 < values.min() < values.max() < 1.25
    assert (found - torch.diag(values)).abs().max() < 0.05
    torch.testing.assert_close(orthogonalised(1e-3 * matrix), orthogonalised(matrix), atol=0.05, rtol=0)


def test_matrices_move_as_with_pytorchs_own() -> None:
    ours, theirs = (nn.Parameter(torch.ones(12, 20)) for _ in range(2))
    rate = 0.01
    optimisers = [
        Muon([ours], rate),
        torch.optim.Muon([theirs], rate / 0.2, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    ]
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        gradient = torch.randn(12, 20, generator=generator)
        for parameter, optimiser in zip((ours, theirs), optimisers, strict=True):
            parameter.grad = gradient.clone()
            optimiser.step()
    moved, expected = ours.detach() - 1, theirs.detach() - 1
    assert 2 * rate < expected.square().mean().sqrt() < 4 * rate
    torch.testing.assert_close(moved, expected, atol=0.03 * expected.abs().max().item(), rtol=0)


def test_filters_move_as_the_matrices_that_they_are_in_any_memory_format() -> None:
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(16, 8, 3, 3, generator=generator)
    results = []
    for shape, memory in (
        ((16, 72), torch.contiguous_format),
        ((16, 8, 3, 3), torch.contiguous_format),
        ((16, 8, 3, 3), torch.channels_last),
    ):
        weight = nn.Parameter(torch.zeros(shape).to(memory_format=memory))
        weight.grad = gradient.reshape(shape).to(memory_format=memory)
        Muon([weight], 1.0).step()
        results.append(weight.detach().reshape(16, 72))
    scale = results[0].abs().max().item()
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=0.03 * scale, rtol=0)


def test_only_maps_between_hidden_states_go_by_muon() -> None:
    network = nn.ModuleDict(
        {"conv_in": nn.Conv2d(3, 8, 3), "middle": nn.Linear(8, 8), "norm": nn.GroupNorm(2, 8), "still": nn.Linear(8, 8)}
    )
    network["still"].requires_grad_(False)
    muon, adamw = muon_and_adamw(network, 1e-3, ("conv_in",))
    inner, rest = ([p for group in o.param_groups for p in group["params"]] for o in (muon, adamw))
    assert [id(p) for p in inner] == [id(network["middle"].weight)]
    assert {id(p) for p in rest} == {
        id(p) for p in (*network["conv_in"].parameters(), network["middle"].bias, *network["norm"].parameters())
    }
