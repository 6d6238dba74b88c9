"""Starts bash_kernel without the pause that pexpect makes before each line it types: 50 ms, and the start has 60 lines.

The pause is for programs that turn the terminal's echo off by themselves; here it is off from the start.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pexpect
from bash_kernel.kernel import BashKernel
from ipykernel.kernelapp import IPKernelApp


class _Spawn(pexpect.spawn):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.delaybeforesend = None


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = ["" if path == here else path for path in sys.path]
    pexpect.spawn = _Spawn
    IPKernelApp.launch_instance(kernel_class=BashKernel)
