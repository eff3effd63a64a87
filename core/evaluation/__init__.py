"""What directions do to many pictures, measured in pieces that can be shared out and joined again."""
