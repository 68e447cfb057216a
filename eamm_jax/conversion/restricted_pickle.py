"""Evaluates pickles that hold plain data, and refuses everything else by name.

A pickle is a program for a small stack machine, and Python's own machine lets that program
import and call anything. This one cannot import: the program is decoded by the standard library's
`pickletools` and interpreted here, a name in it stays a name (`Global`), and the only functions
it can call are those in a table: `FUNCTIONS`, which make plain containers and NumPy values, and
those that the caller adds. Any other name is refused before the next instruction is read.

The work is bounded too, since a hostile file may try to fill the memory: the number of
instructions is limited, claimed lengths are compared with the data, and nothing recurses. A value
that does not fit its instruction raises one of Python's own errors, which `load` translates.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from eamm_jax.errors import printable

MAX_INSTRUCTIONS = 1_000_000
"""A published checkpoint with its optimizers has about 50 000; each one may cost ~100 bytes."""

_PUSH = frozenset(
    (
        *("INT", "LONG", "FLOAT", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        # Python 2 wrote its strings with these three; pickletools reads them as Latin-1.
        *("STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    )
)
"""Instructions whose argument is the value."""

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}

_SMALL_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class PickleError(ValueError):
    """The pickle is not one that this machine evaluates; the message says why."""


class RefusedError(PickleError):
    """The pickle asks for something that a file of plain data has no use for."""


class RefusedNameError(RefusedError):
    """The pickle asks for a class or function that is not in the table."""


class CorruptError(PickleError):
    """The bytes are not a well-formed pickle."""


@dataclass(frozen=True)
class Global:
    """A name that the pickle mentions. Never looked up, never called: only compared."""

    name: str


def load(
    stream: io.BytesIO,
    persistent_load: Callable[[Any], Any] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    names: frozenset[str] = frozenset(),
) -> Any:
    """Evaluates one pickle from where the stream stands to its STOP.

    Args:
        stream: standing at the pickle.
        persistent_load: gives the object for a persistent id, and must check it; by default
            there may be none.
        functions: what the pickle may call beside `FUNCTIONS`, by dotted name: our own functions,
            which take what the pickle says as it is and must check it.
        names: what it may mention but not call, beside `NAMES`.

    Returns:
        Plain values, `Global`s, and what the functions returned. Sets become lists.

    Raises:
        RefusedError: a name or instruction that is not allowed, by its name.
        CorruptError: not a well-formed pickle.
    """
    machine = _Machine(
        {**FUNCTIONS, **(functions or {})}, NAMES | names, persistent_load or _no_object
    )
    try:
        with warnings.catch_warnings():
            # The decoder's, about escapes in text; what the file is worth is said by us.
            warnings.simplefilter("ignore", DeprecationWarning)
            return machine.run(stream)
    except PickleError:
        raise
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        # Messages of the decoder quote the file at length.
        raise CorruptError("its pickle is not well-formed") from error


def _no_object(_: object) -> NoReturn:
    raise CorruptError("it refers to something outside of it")


class _Machine:
    """The stack, the marks and the memo of one run."""

    def __init__(
        self,
        functions: Mapping[str, Callable[..., Any]],
        names: frozenset[str],
        persistent_load: Callable[[Any], Any],
    ):
        self._functions = functions
        self._names = names
        self._persistent_load = persistent_load
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: io.BytesIO) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count >= MAX_INSTRUCTIONS:
                raise RefusedError(f"it has more than {MAX_INSTRUCTIONS} pickle instructions")
            self._step(opcode.name, argument)
        # genops ends at STOP and raises when there is none.
        if len(self._stack) != 1 or self._marks:
            raise CorruptError("the pickle leaves no single value")
        return self._stack[0]

    def _step(self, opcode: str, argument: Any) -> None:
        stack, memo = self._stack, self._memo
        if opcode in _PUSH:
            stack.append(argument)
            return
        if opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
            return
        if opcode in _SMALL_TUPLES:
            items = [stack.pop() for _ in range(_SMALL_TUPLES[opcode])]
            stack.append(tuple(reversed(items)))
            return
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memo[argument])
            case "MARK":
                self._marks.append(stack)
                self._stack = []
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "TUPLE":
                items = self._pop_mark()
                self._stack.append(tuple(items))
            case "LIST" | "FROZENSET":
                items = self._pop_mark()
                self._stack.append(items)
            case "DICT":
                items = self._pop_mark()
                self._stack.append({})
                self._set_items(items)
            case "APPEND":
                item = stack.pop()
                list.append(stack[-1], item)
            case "APPENDS" | "ADDITEMS":
                items = self._pop_mark()
                list.extend(self._stack[-1], items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_item(stack[-1], key, value)
            case "SETITEMS":
                self._set_items(self._pop_mark())
            case "GLOBAL" | "INST":
                self._push_global(argument.replace(" ", ".", 1))
                if opcode == "INST":
                    raise RefusedError("it uses the pickle instruction INST")
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                self._push_global(".".join((module, name)))
            case "REDUCE" | "NEWOBJ":  # the class of a new object is called like a function
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._call(function, arguments))
            case "BUILD":
                state = stack.pop()
                _build(stack[-1], state)
            case "BINPERSID":
                stack.append(self._persistent_load(stack.pop()))
            case _:
                raise RefusedError(f"it uses the pickle instruction {opcode}")

    def _pop_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _set_items(self, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            _set_item(self._stack[-1], key, value)

    def _push_global(self, name: str) -> None:
        if not all(part.isidentifier() for part in name.split(".")):
            raise CorruptError("a name in it is not a name")
        if name not in self._functions and name not in self._names:
            raise RefusedNameError(f"it asks for '{printable(name)}'")
        self._stack.append(Global(name))

    def _call(self, function: object, arguments: object) -> Any:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise CorruptError("it calls what is not a function")
        if function.name not in self._functions:
            raise RefusedNameError(f"it calls '{function.name}'")
        return self._functions[function.name](*arguments)


def _set_item(target: dict[Any, Any], key: object, value: object) -> None:
    # Nested tuples as keys could exhaust the C stack when they are hashed.
    if not isinstance(key, str | int | float | None):
        raise RefusedError(f"a dictionary in it has a key of type {type(key).__name__}")
    dict.__setitem__(target, key, value)


def _build(target: object, state: object) -> None:
    if isinstance(target, NumpyDtype | PickledArray | Namespace):
        target.build(state)
    elif not isinstance(target, dict) or not isinstance(state, dict):
        # The state of a dictionary is the `_metadata` of state dicts: versions of modules, which
        # nothing here reads.
        raise CorruptError("it sets the state of a plain value")


# --- what a pickle may make ---------------------------------------------------------------


class NumpyDtype:
    """A NumPy dtype as pickles describe it: numbers only."""

    ALLOWED = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")

    def __init__(self, code: object, *_align_and_copy: object):
        if code not in self.ALLOWED:
            kind = printable(code) if isinstance(code, str) else type(code).__name__
            raise RefusedError(f"it holds a NumPy value of type {kind!r}")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """Takes the byte order, the one part of a number's state that matters."""
        self.dtype = self.dtype.newbyteorder(state[1])

    def array(self, data: Any, shape: Any, order: Any = "C") -> np.ndarray:
        """The values that bytes hold; never more than there are bytes."""
        values = np.frombuffer(_bytes(data), self.dtype).reshape(shape, order=order)
        return values.astype(self.dtype.newbyteorder("="))


class PickledArray:
    """A NumPy array on its way out of a pickle: empty at first, filled by a BUILD instruction."""

    def __init__(self, *_class_shape_and_code: object):
        self.values: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """Takes (version, shape, dtype, Fortran order, bytes)."""
        _, shape, dtype, fortran, data = state
        self.values = dtype.array(data, shape, "F" if fortran else "C")


class Namespace(dict[str, Any]):
    """An object that only holds attributes: a dictionary of them."""

    def build(self, state: Any) -> None:
        """Takes the attributes."""
        for name, value in state.items():
            _set_item(self, name, value)


def _scalar(dtype: Any, data: Any) -> bool | int | float:
    return dtype.array(data, ()).item()


def _bytes(text: Any, _encoding: object = "latin1") -> bytes:
    """Bytes, which protocol 2 writes as text."""
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _dictionary(pairs: Any = ()) -> dict[Any, Any]:
    target: dict[Any, Any] = {}
    for key, value in pairs.items() if isinstance(pairs, dict) else pairs:
        _set_item(target, key, value)
    return target


def _default_dictionary(_factory: object = None, pairs: Any = ()) -> dict[Any, Any]:
    return _dictionary(pairs)


def _list(items: Any = (), *_: object) -> list[Any]:
    return list(items)


def _path(*parts: Any) -> str:
    return "/".join(parts).replace("//", "/")


_BUILTINS = ("builtins", "__builtin__")  # of Python 3 and 2
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2
_PATHS = ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
_TYPES = ("float16", "float32", "float64", "int32", "int64", "uint8", "bool_")

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _bytes,
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "collections.defaultdict": _default_dictionary,
    "collections.deque": _list,
    "argparse.Namespace": Namespace,
    "types.SimpleNamespace": Namespace,
    "numpy.dtype": NumpyDtype,
    **{f"{module}.scalar": _scalar for module in _MULTIARRAY},
    **{f"{module}._reconstruct": PickledArray for module in _MULTIARRAY},
    **{f"{module}.{name}": _list for module in _BUILTINS for name in ("set", "frozenset")},
    **{f"{module}.{name}": _bytes for module in _BUILTINS for name in ("bytes", "bytearray")},
    **{f"{module}.{name}": _path for module in ("pathlib", "pathlib._local") for name in _PATHS},
}
"""All that a pickle may call to make a plain value."""

NAMES = frozenset(
    [
        "numpy.ndarray",
        *(f"numpy.{name}" for name in _TYPES),
        *(
            f"{module}.{name}"
            for module in _BUILTINS
            for name in ("bool", "dict", "float", "int", "list", "set", "str", "tuple")
        ),
    ]
)
"""What a pickle may mention besides: types, as values and as factories of default values."""
