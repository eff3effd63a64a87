"""Every kind of figure and table of the four papers, drawn with this code, and whether it agrees."""
