"""Damped Gauss–Newton steps inside bounds, for costs that are sums of squares and linear terms."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
State = TypeVar("State")

_FIRST_DAMPING, _MOST_DAMPING = 1e-3, 1e6
_EXCHANGES = 20


class Problem(Protocol[State]):
    """What is minimised; a step is added by the problem itself, since rotations are no numbers."""

    def cost(self, state: State) -> float:
        """The cost of a state."""

    def linearise(self, state: State) -> tuple[float, Array, Array]:
        """Cost, gradient (n,) and a positive semi-definite curvature (n, n) at a state."""

    def moved(self, state: State, step: Array) -> State:
        """A state after a step (n,)."""

    def room(self, state: State) -> tuple[Array, Array]:
        """Smallest and largest step (n,) that is allowed from a state."""


def descend(problem: Problem[State], state: State, rounds: int, enough: float = 1e-5) -> State:
    """The state after at most ``rounds`` steps; ends when a step gains less than ``enough`` of
    the cost."""
    damping = _FIRST_DAMPING
    for _ in range(rounds):
        cost, gradient, curvature = problem.linearise(state)
        low, high = problem.room(state)
        gained = 0.0
        while damping <= _MOST_DAMPING:
            diagonal = np.diag(curvature) * damping + 1e-9
            step = bounded_step(curvature + np.diag(diagonal), gradient, low, high)
            trial = problem.moved(state, step)
            gained = cost - problem.cost(trial)
            if gained > 0:
                state, damping = trial, max(damping * 0.2, 1e-9)
                break
            damping *= 6
        if gained <= enough * max(cost, 1.0):
            break
    return state


def bounded_step(curvature: Array, gradient: Array, low: Array, high: Array) -> Array:
    """(n,) step that minimises ½ xᵀHx + gᵀx between ``low`` ≤ 0 and ``high`` ≥ 0.

    Numbers that run into a bound stay there for this step; the next one may free them.
    """
    step = np.zeros_like(gradient)
    held = ((low >= 0) & (gradient > 0)) | ((high <= 0) & (gradient < 0))
    for _ in range(_EXCHANGES):
        free = ~held
        right = -(gradient[free] + curvature[np.ix_(free, held)] @ step[held])
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)], right)
        out = free & ((step < low) | (step > high))
        if not out.any():
            break
        step = np.clip(step, low, high)
        held |= out
    return np.clip(step, low, high)
