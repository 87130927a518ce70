"""What every application may use, and what knows none of them."""
