"""Factors in, images out. Pure functions of their arguments and a generator."""
