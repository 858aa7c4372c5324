"""Playing a stage: tabular games in compiled loops, any parallel game step by step.

Nothing here is public: plugins and notebooks use the faces that `malfl_algos` names.
"""
