"""A model that is given: perplexity, diversity, FLOPs, throughput, memory."""
