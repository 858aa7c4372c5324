"""Observers that come with the package, one file for each.

The mathematics of MA-LfL is in `malfl_algos.ma_lfl`, that of networks in `malfl_algos.networks`.
"""
