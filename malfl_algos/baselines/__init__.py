"""Observers to compare MA-LfL with: what is lost by leaving out the other agents, the improvement
over stages, or the dynamics.
"""
