"""What runs inside an installed client and tries its methods: one JSON line a check, and nothing of pytest."""
