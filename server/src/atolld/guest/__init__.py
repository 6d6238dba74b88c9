"""The host's side of the guest agent's protocol. Everything the agent says is untrusted input."""
