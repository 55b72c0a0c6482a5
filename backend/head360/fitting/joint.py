"""The cost that a fit minimises: landmarks of all photographs at once, and the priors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.fitting import cameras
from head360.fitting.cameras import POSE, Pose
from head360.fitting.evidence import Evidence
from head360.fitting.landmark_model import bend
from head360.fitting.priors import IDENTITY_LIMIT, ExpressionPrior

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

_TAIL = 3.0  # expected errors from which a landmark pulls with constant force


@dataclass(frozen=True)
class State:
    """What is sought.

    Attributes:
        w: (K,) whitened identity.
        poses: one a view.
        b: (G, A) weights of the active shapes, a row for every group of views.
    """

    w: Array
    poses: tuple[Pose, ...]
    b: Array


@dataclass(frozen=True)
class LensPrior:
    """Normal distributions of logs: focal length in pixels and distance in metres."""

    lens: float
    lens_spread: float
    distance: float
    distance_spread: float
    low: float
    high: float


class Joint:
    """Landmarks of some views and the priors, see ``descent.Problem``.

    The parameters are, one after another: identity, six a pose, one a lens, the expressions.

    Args:
        tensors: (R, 3, 1 + K, 1 + A) of every view: its points by identity and active shapes.
        evidence: of every view.
        prior: of expressions; None where none is sought, and then A is 0.
        groups: which row of ``State.b`` a view has.
        lenses: prior of every lens; None holds it.
        lens_of: which lens a view has.
    """

    def __init__(
        self,
        tensors: Sequence[Floats],
        evidence: Sequence[Evidence],
        prior: ExpressionPrior | None,
        groups: Sequence[int],
        lenses: Sequence[LensPrior | None],
        lens_of: Sequence[int],
    ) -> None:
        self.tensors, self.evidence, self.prior = tensors, evidence, prior
        self.groups, self.lenses, self.lens_of = groups, lenses, lens_of
        self.size = tensors[0].shape[2] - 1
        self._first_lens = self.size + POSE * len(evidence)
        self._first_b = self._first_lens + len(lenses)
        self._active = 0 if prior is None else len(prior.active)
        self._count = self._first_b + self._active * (max(groups) + 1 if self._active else 0)

    # --- the four functions of a problem --------------------------------------------------------

    def cost(self, state: State) -> float:
        """Negative log of how likely a state is, up to a constant."""
        total = self._prior_cost(state)
        for view, item in enumerate(self.evidence):
            places = bend(self.tensors[view], state.w, self._expression(state, view))[0]
            off = cameras.project(state.poses[view], places) - item.pixels
            total += _robust(np.einsum("rij,rj->ri", item.root, off))[0]
        return total

    def linearise(self, state: State) -> tuple[float, Array, Array]:
        """Cost, gradient and Gauss–Newton curvature."""
        gradient, curvature = np.zeros(self._count), np.zeros((self._count, self._count))
        total = self._prior_cost(state)
        self._prior_slopes(state, gradient, curvature)
        for view, item in enumerate(self.evidence):
            expression = self._expression(state, view)
            places, by_w, by_b = bend(self.tensors[view], state.w, expression)
            pixels, by_point, by_pose, by_lens = cameras.derivatives(state.poses[view], places)
            slopes = np.concatenate(
                [by_point @ by_w, by_pose, by_lens[:, :, None], by_point @ by_b], axis=2
            )
            error = np.einsum("rij,rj->ri", item.root, pixels - item.pixels)
            cost, weight = _robust(error)
            total += cost
            slopes = (item.root @ slopes).reshape(2 * len(error), -1)
            heavy = slopes * np.repeat(weight, 2)[:, None]
            columns = self._columns(view)
            gradient[columns] += heavy.T @ error.ravel()
            curvature[np.ix_(columns, columns)] += heavy.T @ slopes
        return total, gradient, curvature

    def moved(self, state: State, step: Array) -> State:
        """A state after a step."""
        lens = step[self._first_lens : self._first_b]
        poses = tuple(
            pose.moved(
                step[self.size + POSE * view : self.size + POSE * (view + 1)],
                float(lens[self.lens_of[view]]),
            )
            for view, pose in enumerate(state.poses)
        )
        b = state.b + step[self._first_b :].reshape(state.b.shape)
        return State(state.w + step[: self.size], poses, b)

    def room(self, state: State) -> tuple[Array, Array]:
        """Bounds of the next step."""
        low, high = np.full(self._count, -np.inf), np.full(self._count, np.inf)
        for view in range(len(self.evidence)):
            start = self.size + POSE * view
            # No more than a quarter radian at once and half the size: the model is local.
            low[start : start + 3], high[start : start + 3] = -0.25, 0.25
            low[start + 5], high[start + 5] = -0.7, 0.7
        identity = slice(0, self.size)
        low[identity], high[identity] = -IDENTITY_LIMIT - state.w, IDENTITY_LIMIT - state.w
        for number, prior in enumerate(self.lenses):
            place = self._first_lens + number
            value = state.poses[self.lens_of.index(number)].lens
            low[place] = 0.0 if prior is None else min(prior.low - value, 0.0)
            high[place] = 0.0 if prior is None else max(prior.high - value, 0.0)
        low[self._first_b :] = -state.b.ravel()
        high[self._first_b :] = 1 - state.b.ravel()
        return low, high

    # --- pieces ---------------------------------------------------------------------------------

    def _expression(self, state: State, view: int) -> Array:
        return state.b[self.groups[view]] if self._active else np.zeros(0)

    def _columns(self, view: int) -> NDArray[np.int64]:
        start = self.size + POSE * view
        first = self._first_b + self._active * self.groups[view]
        return np.concatenate([
            np.arange(self.size), np.arange(start, start + POSE),
            [self._first_lens + self.lens_of[view]], np.arange(first, first + self._active),
        ])  # fmt: skip

    def _prior_cost(self, state: State) -> float:
        total = 0.5 * float(state.w @ state.w)
        if self.prior is not None:
            for row in state.b:
                total += float(self.prior.rate @ row + 0.5 * row @ self.prior.evenness @ row)
        for number, prior in enumerate(self.lenses):
            if prior is None:
                continue
            views = [pose for pose, k in zip(state.poses, self.lens_of, strict=True) if k == number]
            total += 0.5 * ((views[0].lens - prior.lens) / prior.lens_spread) ** 2
            for pose in views:
                off = (pose.log_distance - prior.distance) / prior.distance_spread
                total += 0.5 * off**2 / len(views)
        return total

    def _prior_slopes(self, state: State, gradient: Array, curvature: Array) -> None:
        identity = np.arange(self.size)
        gradient[: self.size] += state.w
        curvature[identity, identity] += 1.0
        if self.prior is not None:
            for number, row in enumerate(state.b):
                start = self._first_b + self._active * number
                own = slice(start, start + self._active)
                gradient[own] += self.prior.rate + self.prior.evenness @ row
                curvature[own, own] += self.prior.evenness
        for number, prior in enumerate(self.lenses):
            place = self._first_lens + number
            if prior is None:
                curvature[place, place] += 1.0  # it does not move: any curvature will do
                continue
            views = [v for v, k in enumerate(self.lens_of) if k == number]
            precision = 1 / prior.lens_spread**2
            gradient[place] += (state.poses[views[0]].lens - prior.lens) * precision
            curvature[place, place] += precision
            for view in views:
                # The log of the distance is that of the lens less that of the size.
                size = self.size + POSE * view + 5
                precision = 1 / prior.distance_spread**2 / len(views)
                pull = (state.poses[view].log_distance - prior.distance) * precision
                gradient[place] += pull
                gradient[size] -= pull
                curvature[place, place] += precision
                curvature[size, size] += precision
                curvature[place, size] -= precision
                curvature[size, place] -= precision


def _robust(error: Array) -> tuple[float, Array]:
    """(R, 2) errors in their expected size → cost, and weight (R,) of each point's square."""
    swell = np.sqrt(1 + (error * error).sum(axis=1) / _TAIL**2)
    return float(_TAIL**2 * (swell - 1).sum()), 1 / swell
