"""Training of heads: data sources, loops, checkpoints."""
