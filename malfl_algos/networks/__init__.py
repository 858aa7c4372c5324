"""Rewards recovered with neural networks, for games with continuous or large observation spaces.

Read these files in this order; each has one subject:

1. `options`: what a user can choose.
2. `encoding`: how observations become inputs of a network.
3. `gathering`: the distinct observations and steps of a trace, as one agent sees them.
4. `mlp`, `recording`, `training`, `checkpoints`, `logging`: networks, and the loop that trains
   them.
5. `estimated_policies`: policies estimated from the played actions, equation (10).
6. `features`: the features that a reward is linear in.
7. `tables`, `dynamics`: tables of features on any device; the expected features after an action.
8. `action_values`: action values that are affine in the reward's weights, equation (5).
9. `device_equations`, `last_layer`: the posterior of the weights, given the actions of the next
   stage, equation (6).
10. `potentials`: the alternative fit of (11)-(12): a reward network and a potential per stage.
11. `relations`, `policy_gradients`, `moves`, `moved_members`: rewards of gradient learners, from
    the moves of their policies.
12. `members`, `followed`, `fitting`: the whole fit of one agent: one member, the policies that
    follow from it, then the ensemble.
13. `recovered_functions`: the recovered rewards, and their file.

Nothing here is public: plugins and notebooks use the faces that `malfl_algos` names. PyTorch (extra
`torch`) is required; no module outside this package imports these modules before they are used.
"""
