"""A terminal in a sandbox is a real one."""

from __future__ import annotations

import pytest

from atoll import Config, PtyOutput, Sandbox

TELL_RESIZE = """
import os, signal, time
signal.signal(signal.SIGWINCH, lambda *_: print("now", *os.get_terminal_size(), flush=True))
print("re" + "ady", flush=True)
for _ in range(30): time.sleep(0.1)
"""


@pytest.mark.parametrize("runtime", ["gvisor", "container"])
def test_programs_are_told_of_a_new_size(client: Config, runtime: str) -> None:
    with Sandbox.create(runtime=runtime, config=client) as sandbox:
        sandbox.files.write("/tmp/resize.py", TELL_RESIZE)
        terminal = sandbox.pty.create(cols=100, rows=30)
        terminal.send_stdin("stty size; python3 /tmp/resize.py; exit\n")
        said, resized = b"", False
        for event in terminal:
            said += event.data if isinstance(event, PtyOutput) else b""
            if b"ready" in said and not resized:
                resized = True
                terminal.resize(cols=77, rows=20)
        assert b"30 100" in said
        assert b"now 77 20" in said
