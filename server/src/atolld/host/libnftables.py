"""Applying nftables commands in process, through libnftables.so.1 (Debian package libnftables1).

Every call is one transaction: the kernel takes all of it or nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import functools

from atolld.foundation.errors import Unavailable

_OUTPUT_JSON = 1 << 4
_LIBRARY = "libnftables.so.1"


class NftError(OSError):
    """The kernel or the library refused a transaction; nothing of it was applied."""


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise Unavailable(f"{_LIBRARY} cannot be loaded ({error}); install the package libnftables1") from error
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_run_cmd_from_buffer.restype = ctypes.c_int
    for name in ("output", "error"):
        getattr(library, f"nft_ctx_buffer_{name}").argtypes = [ctypes.c_void_p]
        get = getattr(library, f"nft_ctx_get_{name}_buffer")
        get.argtypes = [ctypes.c_void_p]
        get.restype = ctypes.c_char_p
    return library


def available() -> str | None:
    """None when the library can be loaded, else the sentence that says what to install."""
    try:
        _library()
    except Unavailable as error:
        return error.message
    return None


def run_blocking(commands: str, *, json: bool = False) -> str:
    """Run nft commands as one transaction and return what they print. Blocks for one to a few milliseconds.

    Raises NftError with the library's own message and ENOENT where a named object does not exist, Unavailable
    when the library is missing.
    """
    library = _library()
    # A context a call: it caches the ruleset it saw, and other programs change rulesets too.
    context = library.nft_ctx_new(0)
    if not context:
        raise NftError(errno.ENOMEM, "libnftables gave no context")
    try:
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        if json:
            library.nft_ctx_output_set_flags(context, _OUTPUT_JSON)
        result = library.nft_run_cmd_from_buffer(context, commands.encode())
        if result != 0:
            message = (library.nft_ctx_get_error_buffer(context) or b"").decode(errors="replace").strip()
            missing = "No such file or directory" in message
            raise NftError(errno.ENOENT if missing else errno.EINVAL, f"nftables: {message or 'refused'}")
        return (library.nft_ctx_get_output_buffer(context) or b"").decode(errors="replace")
    finally:
        library.nft_ctx_free(context)


async def run(commands: str) -> str:
    """`run_blocking` in a thread."""
    return await asyncio.to_thread(run_blocking, commands)
