"""Structures from files: ASE's readers, with one error for all that they raise."""

from __future__ import annotations

import lzma
import os
import sqlite3
import struct
import zlib

from ase import Atoms
from ase.io import ParseError, read
from ase.io.formats import UnknownFileTypeError

from asesc.errors import InputError

# ASE's readers take a file for what its name says, so that a damaged one is whatever they trip
# over: a missing line is an IndexError here and an AssertionError there.
_TRIPPED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    ParseError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    sqlite3.Error,
    struct.error,
    zlib.error,
)


def read_frames(path: str | os.PathLike[str], index: str = ":") -> list[Atoms]:
    """Frames of a file of any format that ASE reads.

    Parameters
    ----------
    path
        The name of a file, also where it contains an ``@``, after which ASE would expect frames.
    index : str
        A slice of the frames, as ASE writes it: ``":10"`` are the first ten, ``"-1:"`` the last.

    Raises
    ------
    InputError
        There is no such file, ASE does not know the format, or the file is damaged or empty.
    """
    name = os.fspath(path)
    try:
        frames = read(name, index=index, do_not_split_by_at_sign=True)
    except UnknownFileTypeError as error:
        raise InputError(f"ASE does not know the format of {name!r}: {error}") from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"cannot open {name!r}: {error.strerror or error}") from error
    except ImportError as error:
        raise InputError(f"ASE needs another package to read {name!r}: {error}") from error
    except _TRIPPED as error:
        why = str(error).strip() or type(error).__name__
        raise InputError(f"ASE cannot read {name!r}, which may be damaged: {why}") from error
    if not frames:
        raise InputError(
            f"ASE finds no structure in {name!r} at {index!r}; it is empty, cut off or shorter"
        )
    return frames
