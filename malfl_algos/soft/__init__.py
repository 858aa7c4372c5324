"""Soft values and policies: evaluation, averages over the other agents, improvement.

The names in `__all__` are public; the modules of this package are private. Read `evaluation` first.
"""

from malfl_algos.soft.evaluation import (
    Transition,
    averaged_reward,
    averaged_transition,
    discounted_sum,
    entropy,
    expected_next,
    log_soft_improvement,
    others_joint_policy,
    policy_transition,
    soft_evaluation,
    transition_under,
)

__all__ = [
    "Transition",
    "averaged_reward",
    "averaged_transition",
    "discounted_sum",
    "entropy",
    "expected_next",
    "log_soft_improvement",
    "others_joint_policy",
    "policy_transition",
    "soft_evaluation",
    "transition_under",
]
