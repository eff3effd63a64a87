"""From a recipe file to directions on the Hub: what is missing is trained, searched and measured, by any number of
processes, and what is there is never made twice.
"""
