"""Learners that come with the package."""
