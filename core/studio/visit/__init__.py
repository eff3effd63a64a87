"""A visit: the session of one visitor, and what its parts do to one another."""
