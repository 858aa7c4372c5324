"""The verdict on a recovered reward, without any ground truth: whether to believe it.

Arrays in, numbers out; `malfl_algos.observers.judging` turns traces and results into arrays. Read
`words` (what a verdict is) and `deciding` (from numbers to words) first, then the numbers:
`balance` (whether trace and game contradict each other), `change` (whether policies change at all),
`halves` (whether the reward explains the change of the policies, in stages that it was not
recovered from) and `agreement` (how close to the ground truth it can be).

Public: `Verdict`.
"""

from malfl_algos.verdict.words import Verdict

__all__ = ["Verdict"]
