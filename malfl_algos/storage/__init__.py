"""Files: arrays, traces, tables, YAML, locks, and how they are written safely.

Read `durable` first: every file is written through it. `traces` is the entry to learning traces,
`arrays` to npz archives. Nothing in this package is public.
"""
