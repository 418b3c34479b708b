"""Shared code of the Spatial Broadcast decoder notebooks (Watters et al. 2019, arXiv 1901.07017).

Imports go one way: data → models → training → metrics → plots, claims → experiments.
"""
