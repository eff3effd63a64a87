"""One tab of the page: its layout and events, its endpoints for programs, and the pieces it is made of."""
