"""A new look for a head that is already there: by filters of our own, or by a sentence.

An *editor* changes pictures of the head; the head's texture, and the hair it wears, are then
learned anew from the changed pictures while mesh and networks stay as they are. So the person keeps
their face, and every blendshape still moves it.
"""
