"""How a function that came by value meets the engine's namespace.

The names it brings along are its own and never overwrite the engine's. A global name that it does
not bring is looked up in the engine's namespace when it is called, and ``global x; x = …`` assigns
there. Both dictionaries involved are exact ``dict``, so that the interpreter's fast paths for
globals and builtins stay in force: instead of a lookup chain, an engine has one dictionary of
builtins for all these functions, in which the names a function misses are set before it is called.
"""

from __future__ import annotations

import builtins
import dis
import pickle
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ipkernel_ext import payload

KEPT = 512  # functions


class LoadedFunction:
    """A function, with the global names it misses and those it assigns."""

    def __init__(self, function: Callable[..., Any], globals: dict[str, Any] | None) -> None:
        self.function = function
        self._globals = globals
        self._missing: set[str] = set()
        self._assigned: set[str] = set()
        if globals is not None:
            found = _functions(function, globals)
            names = {name for f in found for code in payload.codes(f.__code__) for name in code.co_names}
            self._missing = {name for name in names if name not in globals}
            self._assigned = {name for f in found for name in _assigned(f.__code__)} - set(globals)

    @contextmanager
    def bound(self, namespace: dict[str, Any], builtin: dict[str, Any]) -> Iterator[Callable[..., Any]]:
        """The function, with the names it misses looked up now."""
        if self._globals is None:
            yield self.function
            return
        for name in self._missing:
            if name in namespace:
                builtin[name] = namespace[name]
            elif name in vars(builtins):
                builtin[name] = vars(builtins)[name]
            else:
                builtin.pop(name, None)
        try:
            yield self.function
        finally:
            for name in self._assigned & self._globals.keys():
                namespace[name] = self._globals.pop(name)


class FunctionCache:
    """The functions an engine has loaded, by digest.

    Parameters
    ----------
    namespace : dict
        The engine's user namespace.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._builtins = dict(vars(builtins))
        self._loaded: OrderedDict[str, LoadedFunction] = OrderedDict()

    @contextmanager
    def function(self, digest: str, frames: Sequence[Any]) -> Iterator[Callable[..., Any]]:
        """The function of this digest, ready to be called."""
        loaded = self._loaded.get(digest)
        if loaded is None:
            loaded = self._loaded[digest] = self._load(frames)
            while len(self._loaded) > KEPT:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(digest)
        with loaded.bound(self._namespace, self._builtins) as function:
            yield function

    def load(self, frames: Sequence[Any]) -> Any:
        """Any object that may bring functions along."""
        return payload.loads(frames, self._unpickler)

    def clear(self) -> None:
        """Forget all functions."""
        self._loaded.clear()
        self._builtins.clear()
        self._builtins.update(vars(builtins))

    def _load(self, frames: Sequence[Any]) -> LoadedFunction:
        function = self.load(frames)
        own = getattr(function, "__globals__", {})
        mine = own.get("__builtins__") is self._builtins
        return LoadedFunction(function, own if mine else None)

    def _unpickler(self, *args: Any, **kwargs: Any) -> pickle.Unpickler:
        return _Unpickler(self._builtins, *args, **kwargs)


class _Unpickler(pickle.Unpickler):
    """Rebuilds functions that cloudpickle sent by value with the engine's dictionary of builtins."""

    def __init__(self, builtin: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._builtin = builtin

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module == "cloudpickle.cloudpickle":
            if name == "_make_function":
                return self._make_function
            if name == "_function_setstate":
                return self._keep_builtins(found)
        return found

    def _make_function(self, code: Any, globals: dict[str, Any], *rest: Any) -> types.FunctionType:
        globals["__builtins__"] = self._builtin
        return types.FunctionType(code, globals, *rest)

    def _keep_builtins(self, setstate: Callable[..., Any]) -> Callable[..., Any]:
        def keeping(function: Any, state: Any) -> Any:
            result = setstate(function, state)
            function.__globals__["__builtins__"] = self._builtin
            return result

        return keeping


def _functions(function: Any, globals: dict[str, Any]) -> list[types.FunctionType]:
    """The function and all that came along with it: helpers, methods, what it closes over."""
    found: dict[int, types.FunctionType] = {}
    todo: list[Any] = [function, *globals.values()]
    seen: set[int] = set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        item = getattr(item, "__func__", item)
        if isinstance(item, types.FunctionType) and item.__globals__ is globals:
            found[id(item)] = item
            for cell in item.__closure__ or ():
                try:
                    todo.append(cell.cell_contents)
                except ValueError:
                    continue  # not bound yet
        elif isinstance(item, type) and item.__module__ == "__main__":
            todo.extend(vars(item).values())
    return list(found.values())


def _assigned(code: types.CodeType) -> set[str]:
    return {
        instruction.argval
        for part in payload.codes(code)
        for instruction in dis.get_instructions(part)
        if instruction.opname == "STORE_GLOBAL"
    }
