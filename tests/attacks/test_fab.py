"""The step of FAB, against two solvers of scipy."""

import numpy as np
import pytest
import torch

from mmcoa.attacks.image.fab_t import onto_plane

optimize = pytest.importorskip("scipy.optimize")


def smallest(x, slope, value, norm):
    """Size of the smallest move within [0,1] onto the plane, for one picture as a vector; None where it is out of reach."""
    n = len(x)
    if norm == "l2":
        plane = {"type": "eq", "fun": lambda d: value + slope @ d, "jac": lambda d: slope}
        start = np.clip(-value * slope / (slope @ slope), -x, 1 - x)
        options = {"ftol": 1e-12, "maxiter": 500}
        bounds = list(zip(-x, 1 - x, strict=True))
        found = optimize.minimize(
            lambda d: d @ d, start, jac=lambda d: 2 * d, bounds=bounds, constraints=[plane], options=options
        )
        return found.fun**0.5 if found.success else None
    cost, sides = np.append(np.zeros(n), 1.0), np.block([[np.eye(n), -np.ones((n, 1))], [-np.eye(n), -np.ones((n, 1))]])
    bounds = [*zip(-x, 1 - x, strict=True), (0, None)]
    equal = {"A_eq": np.append(slope, 0.0)[None], "b_eq": [-value]}
    found = optimize.linprog(cost, A_ub=sides, b_ub=np.zeros(2 * n), bounds=bounds, **equal)
    return found.fun if found.success else None


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_move_onto_the_plane_is_the_smallest_within_the_box(norm):
    generator = torch.Generator().manual_seed(3)
    shape, seen = (40, 3, 2, 2), set()
    x = (torch.rand(shape, generator=generator, dtype=torch.float64) * 1.6 - 0.3).clamp(0, 1)  # many pixels at the edge
    slope = torch.randn(shape, generator=generator, dtype=torch.float64)
    value = torch.randn(40, generator=generator, dtype=torch.float64) * torch.linspace(0.01, 4, 40)
    moves = onto_plane(x, slope, value, norm)
    assert (x + moves).min() >= -1e-12 and (x + moves).max() <= 1 + 1e-12
    for one in range(40):
        point, plane, move = (part[one].flatten().numpy() for part in (x, slope, moves))
        expected, left = smallest(point, plane, float(value[one]), norm), float(value[one]) + plane @ move
        seen.add(expected is None)
        if expected is None:  # out of reach: as far as the box allows
            assert np.allclose(move, np.where(-np.sign(value[one].item()) * plane > 0, 1 - point, -point), atol=1e-9)
        else:
            assert abs(left) <= 2e-5 * abs(float(value[one]))
            size = np.abs(move).max() if norm == "linf" else np.linalg.norm(move)
            assert size == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert seen == {False, True}
