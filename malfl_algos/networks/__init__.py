"""Learners and observers with neural networks, for games whose states nobody can list.

What is here needs PyTorch (extra `torch`); nothing outside imports it before it is asked for.

Nothing here is public: plugins and notebooks use the faces that `malfl_algos` names.
"""
