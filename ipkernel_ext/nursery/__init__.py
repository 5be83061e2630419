"""What starts engines on one host and watches them."""
