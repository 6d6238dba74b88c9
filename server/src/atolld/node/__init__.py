"""One host's running sandboxes."""
