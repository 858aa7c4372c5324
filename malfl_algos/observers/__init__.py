"""Observers that come with the package, one file for each method.

Read `log_policy` first, the shortest one, then `paper`, the paper's observer. The mathematics of
MA-LfL is in `malfl_algos.ma_lfl`, that of networks in `malfl_algos.networks`.

Nothing here is public: plugins and notebooks use the faces that `malfl_algos` names.
"""
