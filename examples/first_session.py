"""A first session: put data and a program into a sandbox, watch it run, take the results out.

    python examples/first_session.py [directory for the results]

Needs a running server (`make run` starts one). The data is described in `data/README.md`.
"""

from __future__ import annotations

import json
import platform
import sys
import textwrap
import time
from pathlib import Path

import httpx

from atoll import AtollError, Config, Exit, Sandbox, Stderr, Stdout

HERE = Path(__file__).resolve().parent
HOME = "/home/user"


def main() -> int:
    results = Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "results")
    began = time.perf_counter()
    try:
        with Sandbox.create(template="base", runtime="gvisor", cpu=1, memory_mib=512, timeout_s=300) as sandbox:
            created_s = time.perf_counter() - began
            print(f"Sandbox {sandbox.id} is up.\n")
            code = session(sandbox, results)
            show_isolation(sandbox, created_s)
    except AtollError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    show_next_steps()
    return code


def session(sandbox: Sandbox, results: Path) -> int:
    """Upload, run with the output as it comes, download. Returns the program's exit code."""
    for name in ("data/penguins.csv", "analyse_penguins.py"):
        sandbox.files.write(f"{HOME}/{Path(name).name}", (HERE / name).read_bytes())

    command = ["python3", "analyse_penguins.py", "penguins.csv", "report.json", "chart.svg"]
    print(f"$ {' '.join(command)}")
    began = time.perf_counter()
    exit_code = 0
    for event in sandbox.start(command, cwd=HOME):
        if isinstance(event, Stdout):
            print(event.text, end="", flush=True)
        elif isinstance(event, Stderr):
            print(event.text, end="", file=sys.stderr, flush=True)
        elif isinstance(event, Exit):
            exit_code = event.exit_code
            print(f"({event.status}, {time.perf_counter() - began:.2f} s)\n")
    if exit_code:
        return exit_code

    results.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", "chart.svg"):
        (results / name).write_bytes(sandbox.files.read(f"{HOME}/{name}", format="bytes"))
    report = json.loads((results / "report.json").read_text())
    line = report["mass_by_flipper"]
    print("What came out:")
    print(f"  a penguin weighs {line['slope_g_per_mm']:.0f} g more for each mm of flipper (r2 = {line['r2']:.2f});")
    print(f"  {report['species_accuracy']:.0%} of species are told from four measurements.")
    print(f"  report.json and chart.svg (open it in a browser) are in {shown(results)} on this machine now.\n")
    return 0


def show_isolation(sandbox: Sandbox, created_s: float) -> None:
    """What stands between that program and this machine, and how long a sandbox and a command take."""
    config = Config.load()
    headers = {"X-API-Key": config.api_key or ""}
    answer = httpx.get(f"{config.api_url}/v1/runtimes", headers=headers, timeout=30, trust_env=not config.is_loopback)
    answer.raise_for_status()
    runtime = next(item for item in answer.json()["items"] if item["name"] == sandbox.created.runtime)
    guest_kernel = sandbox.run(["uname", "-sr"]).stdout.strip()
    times_ms = sorted(sandbox.run(["true"]).duration_s * 1000 for _ in range(5))

    print("What isolates it:")
    print(f"  runtime        {runtime['name']} {runtime['version']}")
    print(textwrap.fill(runtime["isolation"], 100, initial_indent=" " * 17, subsequent_indent=" " * 17))
    print(f"  guest kernel   {guest_kernel}")
    print(f"  host kernel    {platform.system()} {platform.release()}")
    print("How long it took:")
    print(f"  create         {created_s * 1000:.0f} ms until it answered")
    for name, value_ms in sandbox.created.timings_ms.items():
        print(f"    {name:<12} {value_ms:.0f} ms")
    print(f"  a command      {times_ms[len(times_ms) // 2]:.0f} ms (`true`, the middle of {len(times_ms)})")


def show_next_steps() -> None:
    """Commands to go on with."""
    atoll = shown(Path(sys.executable).with_name("atoll"))
    steps = {
        f"{atoll} run -- python3 -c 'print(6*7)'": "one command in a sandbox of its own",
        f"{atoll} sandbox create": "a sandbox that stays for its 5 minutes",
        f"{atoll} sandbox shell <id>": "a terminal in it",
        f"{atoll} doctor": "what this machine can do, and why not",
        "make stop": "end the server and every sandbox",
    }
    print("\nGo on with:")
    for command, purpose in steps.items():
        print(f"  {command:<{max(map(len, steps))}}   {purpose}")


def shown(path: Path) -> str:
    """`path` as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
