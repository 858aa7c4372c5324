"""Learners that come with the package.

Nothing here is public: plugins and notebooks use the faces that `malfl_algos` names.
"""
