"""Having the kernel put pages into another process's page table, by reading them for it: process_vm_readv(2).

A page that is there already, and is read this way, is mapped as that process would map it; where the mapping is shared
and writable, its own first write to the page then takes no fault.
"""

from __future__ import annotations

import ctypes
import os

_PIECE = 64 * 1024
_PIECES = 16
CALL_BYTES = _PIECE * _PIECES

_libc = ctypes.CDLL(None, use_errno=True)
_libc.process_vm_readv.restype = ctypes.c_ssize_t


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc.process_vm_readv.argtypes = [
    ctypes.c_int,
    ctypes.POINTER(_Iovec),
    ctypes.c_ulong,
    ctypes.POINTER(_Iovec),
    ctypes.c_ulong,
    ctypes.c_ulong,
]


class Faults:
    """For one process, from one thread. Everything read goes to the same 64 KiB, and nowhere else."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._scratch = ctypes.create_string_buffer(_PIECE)
        self._zeros = bytes(_PIECE)
        address = ctypes.addressof(self._scratch)
        self._here = (_Iovec * _PIECES)(*(_Iovec(address, _PIECE) for _ in range(_PIECES)))
        self._there = (_Iovec * _PIECES)()

    def take(self, address: int) -> bool:
        """Map the 1 MiB at `address` there; whether the end of it was still empty. Blocks for 0.1 to 0.5 ms.

        Raises OSError: EPERM, ESRCH, EFAULT when nothing is mapped there.
        """
        for number, piece in enumerate(self._there):
            piece.base, piece.length = address + number * _PIECE, _PIECE
        count = _libc.process_vm_readv(self._pid, self._here, _PIECES, self._there, _PIECES, 0)
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"process_vm_readv of {self._pid}: {os.strerror(number)}")
        return count == CALL_BYTES and self._scratch.raw == self._zeros
