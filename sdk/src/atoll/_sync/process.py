# Generated from `src/atoll/_async/process.py` by `scripts/unasync.py`: change that, not this.
"""A command in a sandbox while it runs: its events, its input, its signals."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import IO, Any

from atoll import _threads as backend
from atoll import _retry
from atoll._sync.guest import Guest, MessageStream
from atoll._collect import Collector
from atoll._envelope import StreamBroken
from atoll._errors import (
    AtollError,
    CommandFailed,
    ConnectionFailed,
    FailedPrecondition,
    Internal,
    NotFound,
    OutputLost,
    SandboxEnded,
    Timeout,
)
from atoll._events import Event, Exit, Gap, PtyOutput, Result, Stderr, Stdout
from atoll._process_wire import STDIN_CHUNK_BYTES, EventReader, input_message

Input = str | bytes | IO[bytes] | Iterable[bytes]

REPLAY_FROM = "atoll-replay-from"
REPLAY_GAP = "atoll-replay-gap"

# The agent ends a command at its time; if it does not say so within this, we stop waiting.
DEADLINE_SLACK_S = 10.0


class Process:
    """One command. Iterating over it gives `Stdout`, `Stderr`, `PtyOutput` and `Gap` events, and one `Exit` last.

    When the connection breaks (the daemon restarts, say), the stream is taken up again where it stopped, without lost
    or doubled output; what the agent no longer had is reported as `Gap`. A slow reader slows the command down: nothing
    is dropped and memory stays flat. Events can be read once, by one reader; the other methods may be called from
    anywhere. As a context manager it disconnects at the end; the command runs on.

    pid: the process id in the sandbox. exit: the `Exit` event once it was read, else None.
    """

    def __init__(
        self,
        guest: Guest,
        *,
        label: str,
        tag: str | None = None,
        timeout_s: float | None = None,
        is_pty: bool = False,
        can_replay: bool = True,
    ) -> None:
        self._guest = guest
        self._tag = tag
        self._label = label
        self._timeout_s = timeout_s
        self._is_pty = is_pty
        self._reader = EventReader()
        self._pending: deque[Event] = deque()
        self._stream: MessageStream | None = None
        self._began = time.monotonic()
        self._can_replay = can_replay
        self._disconnected = False
        self.exit: Exit | None = None

    @property
    def pid(self) -> int:
        """The process id in the sandbox."""
        assert self._reader.pid is not None, "a process is handed out only once it has started"
        return self._reader.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.disconnect()

    def __iter__(self) -> Process:
        return self

    def __next__(self) -> Event:
        """The next event.

        Raises Timeout when the command was ended because its `timeout_s` was over, SandboxEnded when the sandbox
        went away, ConnectionFailed when the daemon stayed away for longer than `Config.resume_timeout_s`.
        """
        while not self._pending:
            if self.exit is not None or self._disconnected:
                raise StopIteration
            self._read_more()
        event = self._pending.popleft()
        if isinstance(event, Exit):
            self._ended(event)
        return event

    def wait(
        self,
        *,
        on_stdout: backend.Callback[str] | None = None,
        on_stderr: backend.Callback[str] | None = None,
        check: bool = False,
    ) -> Result:
        """Read all events to the end and collect them.

        Output that was already taken by iterating is not in the result. The callbacks get each piece of text as it
        comes; a terminal's output goes to `on_stdout`.

        Raises CommandFailed with `check` when the exit code is not 0, OutputLost when part of the output could not be
        delivered, LimitExceeded when more than 256 MiB of output came (the command is killed; read the events
        instead), and as iterating does; a Timeout carries the result so far.
        """
        collector = Collector(self._label, self._began)
        try:
            for event in self:
                if isinstance(event, (Stdout, PtyOutput)) and on_stdout is not None and event.text:
                    backend.call(on_stdout, event.text)
                elif isinstance(event, Stderr) and on_stderr is not None and event.text:
                    backend.call(on_stderr, event.text)
                collector.add(event)
        except Timeout as error:
            error.result = collector.result(None)
            raise
        result = collector.result(self.exit)
        if collector.lost_bytes != 0:
            raise OutputLost(collector.lost_message(), result)
        if check and not result.ok:
            raise CommandFailed(f"{self._label!r} failed: {result.error}", result)
        return result

    def send_stdin(self, data: str | bytes) -> None:
        """Write to the command's standard input, or to its terminal. Text is sent as UTF-8.

        Waits until the command's side has room. Raises NotFound when the command has ended, FailedPrecondition when
        it was started without `stdin=True`.
        """
        payload = data.encode() if isinstance(data, str) else data
        for start in range(0, len(payload), STDIN_CHUNK_BYTES):
            piece = payload[start : start + STDIN_CHUNK_BYTES]
            self._input("SendInput", input_message(self.pid, piece, pty=self._is_pty))

    def close_stdin(self) -> None:
        """Give the command's standard input its end.

        Raises NotFound when the command has ended, FailedPrecondition for a terminal: send "\\x04" to that.
        """
        self._input("CloseStdin", self._selector())

    def send_signal(self, signal: str | int) -> None:
        """Send a signal, such as "SIGINT" or 2, to the command and everything in its process group.

        Raises NotFound when it has ended, InvalidArgument when there is no such signal.
        """
        self._guest.unary("atoll.guest.v1.Guest/Signal", {**self._selector(), "signal": str(signal)})

    def kill(self) -> None:
        """End the command and its process group with SIGKILL; when it has ended already, nothing happens."""
        try:
            self.send_signal("SIGKILL")
        except SandboxEnded:
            raise
        except NotFound:
            return

    def disconnect(self) -> None:
        """Stop reading; the command runs on and `Sandbox.attach` takes it up again. Idempotent."""
        self._disconnected = True
        if self._stream is not None:
            self._stream.close()

    def open(self, method: str, message: dict[str, object], *, user: str | None, headers: dict[str, str]) -> None:
        """For the SDK itself: open the stream and wait until the process id is known."""
        try:
            self._stream = self._guest.stream(
                method, message, user=user, timeout_s=self._timeout_s, headers=headers
            )
        except ConnectionFailed as error:
            if self._tag is None or not error.was_sent:
                raise
            # The request may have arrived: only the agent knows whether the command was started.
            self._resume("the connection broke while the command was being started")
        else:
            self._note_gap(self._stream)
        while self._reader.pid is None and self.exit is None:
            self._read_more()

    def feed(self, source: Input) -> None:
        """For the SDK itself: write all of `source` to standard input and close it; a reader that ended is no error."""
        try:
            if isinstance(source, (str, bytes)):
                self.send_stdin(source)
            elif hasattr(source, "read"):
                while piece := backend.run_blocking(source.read, STDIN_CHUNK_BYTES):
                    self.send_stdin(piece)
            else:
                for piece in backend.iterate(source):
                    self.send_stdin(piece)
            self.close_stdin()
        except (NotFound, FailedPrecondition):
            # The command ended, or closed its input, before it had read everything: that is its own affair.
            return

    def _input(self, method: str, message: dict[str, Any]) -> None:
        try:
            self._guest.unary(f"process.Process/{method}", message)
        except Internal as error:
            # The agent keeps to E2B's contract here, in which a closed or absent input is `internal`.
            raise FailedPrecondition(error.message, request_id=error.request_id) from error

    def _selector(self) -> dict[str, Any]:
        if self._reader.pid is None:
            return {"process": {"tag": self._tag}}
        return {"process": {"pid": self._reader.pid}}

    def _read_more(self) -> None:
        self._check_deadline()
        assert self._stream is not None
        try:
            message = self._stream.next()
        except StreamBroken as broken:
            if self._disconnected:
                return
            self._resume(str(broken))
            return
        except Timeout as error:
            raise (self._timeout() if self._timeout_s is not None else error) from None
        except AtollError as error:
            if _retry.may_come_back(error) and not self._disconnected:
                self._resume(error.message)
                return
            raise
        if message is None:
            raise Internal(f"the stream of {self._label!r} ended without telling how the command ended")
        self._pending.extend(self._reader.read(message))

    def _ended(self, event: Exit) -> None:
        self.exit = event
        assert self._stream is not None
        try:
            while self._stream.next() is not None:
                continue
        except StreamBroken:
            # Nothing can follow the end event but the stream's own end.
            self._stream.close()
        if event.exit_code == -1 and self._is_past_deadline(0.0):
            raise self._timeout()

    def _resume(self, cause: str) -> None:
        """Open the stream again from the byte where it stopped; waits and tries again while the daemon is away."""
        if self._stream is not None:
            self._stream.close()
        give_up_at = time.monotonic() + self._guest.http.config.resume_timeout_s
        attempt = 0
        headers = {REPLAY_FROM: str(self._reader.received_bytes)} if self._can_replay else {}
        while True:
            self._check_deadline()
            try:
                stream = self._guest.stream("process.Process/Connect", self._selector(), headers=headers)
                first = stream.next()
                break
            except StreamBroken:
                pass
            except NotFound as error:
                if isinstance(error, SandboxEnded):
                    raise
                raise ConnectionFailed(f"{cause}, and {self._label!r} is not known to the sandbox any more") from error
            except AtollError as error:
                if not _retry.may_come_back(error):
                    raise
            if time.monotonic() > give_up_at:
                raise ConnectionFailed(f"{cause}, and could not be made again; the command may still be running")
            backend.sleep(_retry.pause_s(attempt))
            attempt += 1
        self._stream = stream
        self._note_gap(stream)
        if not self._can_replay:
            self._pending.append(Gap(None))
        if first is not None:
            self._pending.extend(self._reader.read(first))

    def _note_gap(self, stream: MessageStream) -> None:
        lost = stream.headers.get(REPLAY_GAP, "0")
        if lost.isdecimal() and int(lost) > 0:
            self._reader.received_bytes += int(lost)
            self._pending.append(Gap(int(lost)))

    def _check_deadline(self) -> None:
        if self._is_past_deadline(DEADLINE_SLACK_S):
            raise self._timeout()

    def _is_past_deadline(self, slack_s: float) -> bool:
        return self._timeout_s is not None and time.monotonic() - self._began > self._timeout_s + slack_s

    def _timeout(self) -> Timeout:
        return Timeout(f"{self._label!r} did not end within {self._timeout_s:g} s and was killed")
