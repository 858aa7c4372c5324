"""Processes: pools of workers, clusters, compilation and BLAS threads.

Read `pool` first; `clusters` opens pools on Dask and Ray. This package is private.
"""
