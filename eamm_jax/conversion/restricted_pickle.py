"""Evaluates pickles that hold plain data, and refuses everything else by name.

A pickle is a program for a small stack machine, and Python's own machine lets that program
import and call anything. This one cannot import: the program is decoded by the standard library's
`pickletools` and interpreted here, a name in it stays a name (`Global`), and the only functions
it can call are those in the caller's table. Any other name is refused before the next
instruction is read. Sets become lists.

The work is bounded too, since a hostile file may try to fill the memory: the number of
instructions is limited, claimed lengths are checked against the file, and nothing recurses.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast, runtime_checkable

MAX_INSTRUCTIONS = 1_000_000
"""A published checkpoint with its optimizers has about 50 000; each one may cost ~100 bytes."""

MAX_LINE_BYTES = 4096
"""Longest line of a text instruction that is read."""

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


class Bounded:
    """What pickles are read from: never beyond the end, never a huge line.

    Args:
        stream: standing at the pickle.
        end: where the file ends, in bytes.
    """

    def __init__(self, stream: IO[bytes], end: int):
        self._stream = stream
        self._end = end

    def tell(self) -> int:
        """Position in bytes."""
        return self._stream.tell()

    def read(self, count: int) -> bytes:
        """At most `count` bytes; a claimed length of terabytes is not allocated."""
        return self._stream.read(max(0, min(count, self._end - self._stream.tell())))

    def readline(self) -> bytes:
        """A line, or as much of it as a name could need."""
        return self._stream.readline(min(MAX_LINE_BYTES, self._end - self._stream.tell()))


@runtime_checkable
class Buildable(Protocol):
    """One of our own objects that takes further state from a BUILD instruction."""

    def build(self, state: object) -> None:
        """Takes the state, or raises ValueError."""


def _dotted(module: object, name: object) -> str:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise CorruptError("a name in it is not text")
    if not all(part.isidentifier() for part in f"{module}.{name}".split(".")):
        raise CorruptError("a name in it is not a name")
    return f"{module}.{name}"


class _Machine:
    """The stack, the marks and the memo of one run."""

    def __init__(
        self,
        functions: Mapping[str, Callable[..., Any]],
        persistent_load: Callable[[Any], Any],
        names: frozenset[str],
    ):
        self._functions = functions
        self._persistent_load = persistent_load
        self._names = names
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: Bounded) -> Any:
        instructions = pickletools.genops(cast(IO[bytes], stream))
        for count, (opcode, argument, _) in enumerate(instructions):
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
            size = _SMALL_TUPLES[opcode]
            if len(stack) < size:
                raise CorruptError("its stack runs empty")
            start = len(stack) - size
            stack[start:] = [tuple(stack[start:])]
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
                target: dict[Any, Any] = {}
                _set_items(target, items)
                self._stack.append(target)
            case "APPEND":
                _extend(stack[-2], [stack.pop()])
            case "APPENDS" | "ADDITEMS":
                items = self._pop_mark()
                _extend(self._stack[-1], items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [key, value])
            case "SETITEMS":
                items = self._pop_mark()
                _set_items(self._stack[-1], items)
            case "GLOBAL" | "INST":
                module, _, name = argument.partition(" ")
                self._push_global(_dotted(module, name))
                if opcode == "INST":
                    raise RefusedError("it uses the pickle instruction INST")
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                self._push_global(_dotted(module, name))
            case "REDUCE" | "NEWOBJ":  # the class of a new object is called like a function
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._apply(function, arguments))
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

    def _push_global(self, name: str) -> None:
        if name not in self._functions and name not in self._names:
            raise RefusedNameError(f"it asks for '{name}'")
        self._stack.append(Global(name))

    def _apply(self, function: object, arguments: object) -> Any:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise CorruptError("it calls what is not a function")
        if function.name not in self._functions:
            raise RefusedNameError(f"it calls '{function.name}'")
        return self._functions[function.name](*arguments)


def _extend(target: object, items: list[Any]) -> None:
    if not isinstance(target, list):
        raise CorruptError("it appends to what is not a list")
    target.extend(items)


def _set_items(target: object, items: list[Any]) -> None:
    if not isinstance(target, dict) or len(items) % 2:
        raise CorruptError("it sets items of what is not a dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        set_item(target, key, value)


def set_item(target: dict[Any, Any], key: object, value: object) -> None:
    """Sets an item of a dictionary whose key comes from a pickle."""
    # Nested tuples as keys could exhaust the C stack when they are hashed.
    if not isinstance(key, str | int | float | None):
        raise RefusedError(f"a dictionary in it has a key of type {type(key).__name__}")
    target[key] = value


def _build(target: object, state: object) -> None:
    if isinstance(target, Buildable):
        target.build(state)
    elif not isinstance(target, dict) or not isinstance(state, dict):
        # The state of a dictionary is the `_metadata` of state dicts: versions of modules, which
        # nothing here reads.
        raise CorruptError("it sets the state of a plain value")


def load(
    stream: Bounded,
    functions: Mapping[str, Callable[..., Any]],
    persistent_load: Callable[[Any], Any],
    names: frozenset[str] = frozenset(),
) -> Any:
    """Evaluates one pickle from where the stream stands to its STOP.

    Args:
        stream: standing at the pickle.
        functions: what the pickle may call, by dotted name: our own functions, which take
            what the pickle says as it is and must check it.
        persistent_load: gives the object for a persistent id; must check it, too.
        names: further names that may be mentioned, but not called.

    Returns:
        Plain values, `Global`s, and what the functions returned.

    Raises:
        RefusedError: a name or instruction that is not allowed, by its name.
        CorruptError: not a well-formed pickle.
    """
    try:
        with warnings.catch_warnings():
            # The decoder's, about escapes in text; what the file is worth is said by us.
            warnings.simplefilter("ignore", DeprecationWarning)
            return _Machine(functions, persistent_load, names).run(stream)
    except PickleError:
        raise
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        # Messages of the decoder quote the file at length.
        raise CorruptError("its pickle is not well-formed") from error
