"""Playing a stage: tabular games in compiled loops, any parallel game step by step."""
