"""Retention gates: how long an entry of the KV cache is worth keeping, learned on a frozen model."""
