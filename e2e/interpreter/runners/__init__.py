"""Programs that run with an installed client: what E2B documents of the code interpreter, example by example."""
