"""Datasets, and the few of their images that are labelled.

A *picture* is a whole image file as a person took it; an *image* is what a method sees: a whole picture, or one patch
of it.
"""
