"""MA-LfL: recover the rewards of agents from the sequence of their improving policies.

Nothing here is public: plugins and notebooks use the faces that `malfl_algos` names.
"""
