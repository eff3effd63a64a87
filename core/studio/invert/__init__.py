"""Invert, without the page: a picture and a prompt into text-to-image models by several methods, and its edits."""
