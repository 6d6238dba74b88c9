"""The native API, `/v1`: one router a noun; each handler translates, calls one use case, and translates back."""
