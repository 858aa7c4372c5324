"""Soft values and policies: evaluation, averages over the other agents, improvement.

Public is what this module hands on; the modules below it are private.
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
