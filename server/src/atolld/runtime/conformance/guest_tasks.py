"""Programs that checks start in a guest, and how they are asked from inside it. Python's own library only."""

from __future__ import annotations

import json
import shlex

from atolld.foundation.errors import Internal
from atolld.runtime.conformance.lab import Ground, Lab

# Everything that a saved guest should still have: memory that changes by itself, a random value known to nobody else,
# an open file, a child with memory of its own, a listening socket.
COUNTER = """
import json, os, secrets, socket, threading, time
mine, theirs = socket.socketpair()
if os.fork() == 0:
    mine.close()
    asked = 0
    while theirs.recv(1):
        asked += 1
        theirs.send(bytes([asked]))
    os._exit(0)
kept = open('/root/kept', 'ab', buffering=0)
state = {'token': secrets.token_hex(8), 'ticks': 0, 'asked': 0}
def tick():
    while True:
        state['ticks'] += 1
        time.sleep(0.01)
threading.Thread(target=tick, daemon=True).start()
listener = socket.create_server(('0.0.0.0', 7001))
while True:
    connection, _ = listener.accept()
    state['asked'] += 1
    kept.write(b'x')
    mine.send(b'?')
    state['child'] = mine.recv(1)[0]
    state['file'] = os.fstat(kept.fileno()).st_size
    connection.sendall(json.dumps(state).encode())
    connection.close()
"""
COUNTER_PORT = 7001

# As nginx, node and tokio do it: one epoll for all connections. On many ports, each with an epoll of its own, because
# whether a saved epoll wakes for ever for a connection that has ended is a matter of the order in which it is saved.
EPOLL_ECHO = """
import select, socket, threading
def serve(listener):
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    connections = {}
    while True:
        for number, _ in epoll.poll():
            if number == listener.fileno():
                connection, _ = listener.accept()
                connections[connection.fileno()] = connection
                epoll.register(connection, select.EPOLLIN)
                continue
            try:
                data = connections[number].recv(100)
            except OSError:
                data = b''
            if data:
                connections[number].send(data)
                continue
            try:
                epoll.unregister(number)
            except OSError:
                pass
            connections[number].close()
for port in range(7100, 7112):
    threading.Thread(target=serve, args=(socket.create_server(('0.0.0.0', port)),)).start()
open('/root/ready', 'w')
"""
EPOLL_PORTS = range(7100, 7112)

# A file that is open and has no name any more, and stays so until the program ends.
HOLD_DELETED = """
import os, time
held = open('/root/held now', 'w')
os.unlink('/root/held now')
open('/root/ready', 'w')
time.sleep(1000)
"""

# The given number of MiB, of written bytes.
FILL = """
import os, time
one = os.urandom(1 << 20)
held = [one + b'x' for _ in range({mib})]
open('/root/ready', 'w')
time.sleep(1000)
"""

_ASK = """
import socket
c = socket.create_connection(('127.0.0.1', {port}), 5)
print(b''.join(iter(lambda: c.recv(4096), b'')).decode())
"""


async def begin(lab: Lab, ground: Ground, program: str, until: str) -> None:
    """Run Python in the background of the guest and wait until the shell command `until` succeeds, at most 10 s."""
    code = shlex.quote(program)
    line = f"python3 -c {code} >/root/task.log 2>&1 </dev/null & "
    line += f"for _ in $(seq 200); do {until} && exit 0; sleep 0.05; done; cat /root/task.log; exit 1"
    answer = await lab.run(ground, line)
    if answer.status != 0:
        raise Internal(f"a program of the test does not run in the guest: {answer}")


async def begin_counter(lab: Lab, ground: Ground) -> dict[str, int | str]:
    """Start `COUNTER`; its first answer."""
    await begin(lab, ground, COUNTER, "grep -q ':1B59 ' /proc/net/tcp")
    return await ask_counter(lab, ground)


async def ask_counter(lab: Lab, ground: Ground) -> dict[str, int | str]:
    """What `COUNTER` answers now."""
    answer = await lab.run(ground, f"python3 -c {shlex.quote(_ASK.format(port=COUNTER_PORT))}")
    try:
        told: dict[str, int | str] = json.loads(answer.output)
    except ValueError:
        raise Internal(f"the counter in the guest does not answer: {answer}") from None
    return told
