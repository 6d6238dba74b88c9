"""Programs that tests run inside sandboxes; only their text is used out here."""
