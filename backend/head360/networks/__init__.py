"""Torch modules of the neural heads; nothing here reads files or knows about cameras."""
