"""Parallel environments with one deliberate error each, and a correct one.

`Line` is correct: two agents walk on a line, some steps go in a random direction, and one agent
stays longer than the other. Each broken environment changes one thing; `FAULTS` has the expected
messages.
"""

from broken_envs import agents, chance, copies, declaration, memory, order, returned
from broken_envs.line import Line
from broken_envs.sound import SOUND

__all__ = ["FAULTS", "PASS_API_TEST", "PASS_BOTH_TESTS", "SOUND", "Line"]

FAULTS = [
    fault
    for module in (declaration, returned, agents, memory, chance, order, copies)
    for fault in module.FAULTS
]

# What PettingZoo's own tests let through: `parallel_api_test`, and both tests of a parallel env.
PASS_API_TEST = [
    returned.BadLateObservation,
    returned.NanReward,
    returned.TextReward,
    chance.SeedIgnored,
    chance.NumpyGlobalFromStepTwo,
]
PASS_BOTH_TESTS = [
    memory.OneBufferForAll,
    memory.OneBufferForEver,
    chance.FreshEntropyAtReset,
    order.DictOrder,
    copies.CopyIsItself,
]
