"""A visitor's photograph: finding the face in it, cutting out what a model sees, and putting an edit back."""
