"""The page: a folder per tab, and the widgets, drawings and theme that they share. Tabs wire; `core` computes."""
