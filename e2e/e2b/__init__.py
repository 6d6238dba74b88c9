"""Official clients of E2B, unmodified, against this product."""
