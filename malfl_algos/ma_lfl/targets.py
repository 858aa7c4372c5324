"""What two successive policies of an agent say about its reward: equation (11)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import rel_entr

from malfl_algos.soft.evaluation import expected_next
from malfl_env.errors import InputError

__all__ = ["reward_targets"]

FloatArray = NDArray[np.float64]


def reward_targets(
    policy: FloatArray,
    improved: FloatArray,
    transition: sp.csr_array,
    *,
    discount: float,
    temperature: float,
) -> FloatArray:
    """Targets of one improvement, equation (11).

    Y(s, a) = alpha log pi'(a | s) + alpha gamma E[KL(pi(s') || pi'(s'))], the expectation over the
    other agents' actions and the next state.

    Args:
        policy: pi_h of the agent, `(n_states, n_actions)`.
        improved: pi_{h+1}, same shape, positive.
        transition: `averaged_transition` under the joint policy of stage h.
        discount: gamma in [0, 1).
        temperature: alpha > 0.

    Returns:
        `(n_states, n_actions)`. Shaping the reward by a function of the state leaves it alone.

    Raises:
        InputError: where the improved policy has a probability of 0: its logarithm is not finite.
    """
    if not np.all(improved > 0):
        state, action = np.argwhere(~(improved > 0))[0]
        raise InputError(
            f"the improved policy has probability {improved[state, action]} for action {action} in "
            f"state {state}; equation (11) takes its logarithm, so it must be positive"
        )
    divergence = rel_entr(policy, improved).sum(axis=-1)
    drift = discount * temperature * expected_next(transition, divergence)
    return np.asarray(temperature * np.log(improved) + drift)
