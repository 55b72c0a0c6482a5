"""Parametric mesh: ICT-FaceKit → bilinear model, mesh files, iso-surfaces. Imports nothing here."""
