"""Processes: pools of workers, clusters, compilation and BLAS threads.

Read `pool` first; `clusters` opens pools on Dask and Ray. Nothing in this package is public.
"""
