"""Objectives: pure functions from velocities and optimality to per-sample loss terms."""
