"""What runs inside an installed client and tries its methods: prints one JSON line a check, and knows nothing of pytest."""
