"""How a function that came by value meets the engine's namespace.

The names it brings along are its own and never overwrite the engine's. A global name that it does
not bring is looked up in the engine's namespace at the moment it is used, and ``global x; x = …``
assigns there. The interpreter's fast paths must stay in force, so there is no lookup chain:

* Functions that bring nothing have the engine's namespace itself as their globals.
* All others have a ``dict`` of their own with what they bring and the builtins that they use. Only
  a name that is in neither goes on, to the engine's dictionary of builtins, whose ``__missing__``
  is the lookup in the namespace. What they assign is moved there when the task ends.

Helper functions and classes that came along are treated likewise; functions by reference are left
alone. What a task is must not be known here.
"""

from __future__ import annotations

import builtins
import dis
import types
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from ipkernel_ext import payload

Named = Callable[[str], Any]

KEPT = 512  # functions

_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"})
_MODULE = frozenset({"__builtins__", "__name__", "__package__", "__path__", "__file__", "__doc__"})


class FunctionCache:
    """The functions an engine has loaded, by digest.

    Parameters
    ----------
    namespace : dict
        The engine's user namespace.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._builtins: dict[str, Any] = type("Names", (dict,), {"__missing__": namespace.__getitem__})()
        self._builtins.update(vars(builtins))
        self._loaded: OrderedDict[str, Callable[..., Any]] = OrderedDict()
        self._groups: WeakKeyDictionary[types.FunctionType, _Group] = WeakKeyDictionary()
        self._assigning: WeakKeyDictionary[types.FunctionType, _Group] = WeakKeyDictionary()
        self._assigns = False  # there has been such a function
        self._used: dict[str, Any] = {}  # names of builtins that some group copied, and what they mean here

    def function(self, digest: str, frames: Sequence[Any]) -> Callable[..., Any]:
        """The function of this digest; its frames are looked at only when it is not known yet.

        Raises
        ------
        PayloadError
            It cannot be rebuilt here.
        """
        function = self._loaded.get(digest)
        if function is None:
            function = self._loaded[digest] = self.load(frames)
            while len(self._loaded) > KEPT:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(digest)
        return function

    def load(self, frames: Sequence[Any], named: Named | None = None) -> Any:
        """Any object that may bring functions along.

        Parameters
        ----------
        named
            Gives what takes the place of each ``Ref`` in it, by its name.

        Raises
        ------
        PayloadError
            It cannot be rebuilt here.
        NameNotFound
            There is nothing of such a name; ``named`` raises it.
        """
        groups: list[_Group] = []
        obj = payload.loads(frames, _Unpickler, groups, (), self._namespace, self._builtins, named)
        if not groups:
            return obj
        bare = [i for i, group in enumerate(groups) if group.bare(self._namespace)]
        if bare:
            groups = []
            obj = payload.loads(frames, _Unpickler, groups, bare, self._namespace, self._builtins, named)
        for group in groups:
            self._adopt(group)
        return obj

    def begin(self) -> None:
        """User code is about to run: follow what the namespace does to names of builtins."""
        for name, value in self._used.items():
            now = self._meaning(name)
            if now is not value:
                self._used[name] = now
                for group in set(self._groups.values()):
                    if name in group.copied:
                        group.globals[name] = now

    def end(self) -> None:
        """User code has run: what functions assigned to names they did not bring is the engine's."""
        if not self._assigns:
            return
        for group in set(self._assigning.values()):
            for name in group.assigned & group.globals.keys():
                self._namespace[name] = group.globals.pop(name)

    def clear(self) -> None:
        """Forget all functions."""
        self._loaded.clear()

    def _adopt(self, group: _Group) -> None:
        if group.globals is self._namespace:
            return
        missing = group.find_missing()
        group.copied = {name for name in missing - group.assigned if name in vars(builtins)}
        for name in group.copied:
            group.globals[name] = self._used[name] = self._meaning(name)
        for function in group.functions:
            self._groups[function] = group
            if group.assigned:
                self._assigns = True
                self._assigning[function] = group

    def _meaning(self, name: str) -> Any:
        return self._namespace.get(name, vars(builtins).get(name))


class _Group:
    """Functions that came along in one object and share their globals."""

    def __init__(self, globals: dict[str, Any], sent: dict[str, Any]) -> None:
        self.globals = globals
        self.sent = sent  # the dictionary as it was rebuilt, by which the group is known
        self.functions: list[types.FunctionType] = []
        self.assigned: set[str] = set()  # names it may assign and did not bring
        self.copied: set[str] = set()  # names of builtins

    def find_missing(self) -> set[str]:
        """The global names that were not brought along."""
        used: set[str] = set()
        assigned: set[str] = set()
        for function in self.functions:
            for code in payload.codes(function.__code__):
                for instruction in dis.get_instructions(code):
                    if instruction.opname in _GLOBAL:
                        used.add(instruction.argval)
                        if instruction.opname == "STORE_GLOBAL":
                            assigned.add(instruction.argval)
        self.assigned = assigned - self.globals.keys()
        return used - self.globals.keys()

    def bare(self, namespace: dict[str, Any]) -> bool:
        """Whether the group brings nothing of its own and needs something of the engine's."""
        if self.globals is namespace or self.globals.keys() - _MODULE or self.globals.get("__name__") != "__main__":
            return False
        return bool(self.find_missing() - vars(builtins).keys()) or bool(self.assigned)


class _Unpickler(payload.Unpickler):
    """Rebuilds functions that cloudpickle sent by value with globals of our choice."""

    def __init__(
        self,
        groups: list[_Group],
        bare: Collection[int],
        namespace: dict[str, Any],
        builtin: dict[str, Any],
        named: Named | None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._groups = groups
        self._bare = bare
        self._namespace = namespace
        self._builtin = builtin
        self._named = named

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if found is payload.Ref and self._named is not None:
            return self._named
        if module == "cloudpickle.cloudpickle":
            if name == "_make_function":
                return self._make_function
            if name == "_function_setstate":
                return _keeping_builtins(found)
        return found

    def _make_function(self, code: types.CodeType, sent: dict[str, Any], *rest: Any) -> types.FunctionType:
        group = next((group for group in self._groups if group.sent is sent), None)
        if group is None:
            own = self._namespace if len(self._groups) in self._bare else sent
            sent["__builtins__"] = self._builtin
            group = _Group(own, sent)
            self._groups.append(group)
        function = types.FunctionType(code, group.globals, *rest)
        group.functions.append(function)
        return function


def _keeping_builtins(setstate: Callable[..., Any]) -> Callable[..., Any]:
    def keeping(function: types.FunctionType, state: Any) -> Any:
        before = function.__globals__["__builtins__"]
        result = setstate(function, state)
        function.__globals__["__builtins__"] = before
        return result

    return keeping
