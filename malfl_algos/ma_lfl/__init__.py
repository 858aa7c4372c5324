"""MA-LfL: recover the rewards of agents from the sequence of their improving policies."""
