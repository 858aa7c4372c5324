"""Files: arrays, traces, tables, and how they are written.

Nothing here is public: plugins and notebooks use the faces that `malfl_algos` names.
"""
