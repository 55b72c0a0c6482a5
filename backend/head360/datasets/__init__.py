"""Data sets on disk: the SYNHEAD layout of multi-view synthetic heads, read, written, checked."""
