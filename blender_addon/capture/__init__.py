"""Photographing the artist's own head for a training set: frame, cast, stage, pictures, files.

Between two pictures the artist's scene is as it was: every picture sets its stage and clears it
away in one go, so a cancelled, failed or undone capture has nothing to repair.
"""
