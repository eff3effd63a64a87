"""Asyrp: text-driven directions in h-space (Kwon, Jeong, Uh: Diffusion models already have a semantic latent space)."""
