"""Soft values and policies: evaluation, averages over the other agents, iteration."""
