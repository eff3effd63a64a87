"""Editing in the h-space of frozen diffusion models. Nothing in here imports gradio."""
