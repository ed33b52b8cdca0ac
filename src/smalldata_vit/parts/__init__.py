"""Modules and callables on tensors that methods are built from: one idea, one file."""
