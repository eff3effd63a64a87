"""Unsupervised directions of h-space, of one region of one image: one analysis, then dense algebra for any region."""
