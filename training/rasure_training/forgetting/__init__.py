"""What an erased thing can still be got out of a cache by."""
