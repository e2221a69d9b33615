"""Which KV heads need everything: PruLong (arXiv 2506.17121) and DuoAttention (arXiv 2410.10819) on a frozen GGUF model."""
