"""Discover, without the page: a picture is analysed once, then any region has its directions, with pictures and names.

An `Exploration` is one search: regions, method, settings, and its rows, which fill up while the job `explore` runs:
quick directions first (no network call once the picture is analysed), then pictures of each, then what the refinement
of the region makes better. Work is a `Job`; visitors' jobs take turns on the device.
"""
