"""Budgets for the KV cache: what is asked of it, how policies are measured, and what comes of it."""
