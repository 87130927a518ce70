"""Code that every application may use, and that knows none of them."""
