"""Rewards recovered with neural networks, for games with continuous or large observation spaces.

Read these files in this order; each has one subject:

1. `options`: what a user can choose.
2. `encoding`: observations as inputs of a network.
3. `gathering`: the distinct observations and steps of a trace, as one agent sees them.
4. `mlp`, `training`, `checkpoints`, `logging`: networks, and the loop that trains them.
5. `estimated_policies`: everyone's policies from what was played, equation (10).
6. `features`: what a reward is linear in.
7. `dynamics`: the features to be expected after an action.
8. `action_values`: action values that are affine in the reward's weights, equation (5).
9. `last_layer`: the weights' posterior from what was played next, equation (6).
10. `potentials`: the other fit, (11)-(12) with a reward network and a potential per stage.
11. `members`, `fitting`: all of it for one agent: a member, and the ensemble of them.
12. `recovered_functions`: the rewards that come of it, and their file.

Nothing here is public: plugins and notebooks use the faces that `malfl_algos` names. PyTorch (extra
`torch`) is needed; nothing outside imports these modules before they are asked for.
"""
