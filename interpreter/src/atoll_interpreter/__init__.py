"""The code interpreter inside a sandbox: an HTTP server in front of Jupyter's kernels."""
