"""Several directions at once: what a composition is, how it is applied, and what can be made of it."""
