"""Real pictures put into a text-to-image model, and edited there: one file per method, shared ideas beside them."""
