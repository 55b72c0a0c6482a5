"""Synthetic heads: who sits, what they wear, how light falls, and the pictures taken of it."""
