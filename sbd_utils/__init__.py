"""Shared code of the Spatial Broadcast decoder notebooks (Watters et al. 2019, arXiv 1901.07017).

Imports go one way: worlds, models -> training -> measures -> figures, claims -> studies ->
reproduce.
"""
