"""PIE-Bench: the benchmark of inversion methods that the field compares with (Ju et al. 2023, PnP inversion)."""
