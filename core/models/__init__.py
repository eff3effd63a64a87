"""Which models there are (cards), the map between pixels and network space (codec), loading and keeping (loader)."""
