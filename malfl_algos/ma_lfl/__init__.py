"""The mathematics of MA-LfL: rewards of agents from the sequence of their improving policies.

Arrays in, arrays out; `malfl_algos.observers` turns traces into arrays. Read `recovery` (the
targets of equation (11)) first, then `regression` (the paper's equation (12)) or `learner_models`
and `inference` (the Bayesian observers).

Nothing here is public: plugins and notebooks use the faces that `malfl_algos` names.
"""
