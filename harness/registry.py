"""Named things that are imported only when asked for: built in, decorated, or from an entry point.

A name without a slash belongs to this package. Everybody else's is `package/name`, so a plugin can
never stand in for a built-in task.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from ..errors import UnknownNameError, UsageError
from .task import Task

T = TypeVar("T")
TaskT = TypeVar("TaskT", bound=type[Task[Any]])

_OUR_PACKAGE = __name__.partition(".")[0]


class Registry(Generic[T]):
    """Names of one kind. Listing them imports nothing; getting one imports that one alone."""

    def __init__(self, kind: str, entry_point_group: str, built_ins: Mapping[str, str]) -> None:
        """`built_ins` maps a name to `package.module:attribute`."""
        self.kind = kind
        self.entry_point_group = entry_point_group
        self._built_ins = dict(built_ins)
        self._registered: dict[str, T] = {}

    def names(self) -> list[str]:
        """Built-in names in their own order, then those of plugins in alphabetical order."""
        others = {*self._registered, *self._plugins()} - self._built_ins.keys()
        return [*self._built_ins, *sorted(others)]

    def get(self, name: str) -> T:
        """Import and return what `name` stands for. Raises `UnknownNameError` or `UsageError`."""
        if name in self._built_ins:
            return self._load_built_in(name)
        if name in self._registered:
            return self._registered[name]
        plugins = self._plugins()
        if name not in plugins:
            raise UnknownNameError(self.kind, name, self.names())
        return self._load_plugin(name, plugins[name])

    def available(self) -> dict[str, T]:
        """Everything that can be loaded, by name. A broken plugin is warned about and left out."""
        found = {}
        for name in self.names():
            try:
                found[name] = self.get(name)
            except UsageError as error:
                warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        return found

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that makes an object known under `name` in this process."""

        def decorate(item: T) -> T:
            self._add(name, item)
            return item

        return decorate

    def _add(self, name: str, item: T) -> None:
        target = f"{getattr(item, '__module__', '')}:{getattr(item, '__qualname__', '')}"
        if self._built_ins.get(name) == target:
            return
        if name in self._built_ins:
            raise UsageError(
                f"{self.kind} {name!r} is built in and can't be replaced; "
                f"call yours 'package/{name}'"
            )
        if "/" not in name and not target.startswith(f"{_OUR_PACKAGE}."):
            raise UsageError(
                f"{self.kind} {name!r} needs a package in its name; call it 'package/{name}'"
            )
        self._registered[name] = item

    def _load_built_in(self, name: str) -> T:
        module, _, attribute = self._built_ins[name].partition(":")
        item: T = getattr(import_module(module), attribute)
        return item

    def _load_plugin(self, name: str, entry_point: EntryPoint) -> T:
        try:
            item: T = entry_point.load()
        except Exception as error:
            raise UsageError(
                f"plugin {self.kind} {name!r} ({entry_point.value}) can't be loaded: "
                f"{type(error).__name__}: {error}; fix or uninstall its package"
            ) from error
        declared = getattr(getattr(item, "spec", None), "name", name)
        if declared != name:
            raise UsageError(
                f"plugin {self.kind} {name!r} calls itself {declared!r}; the two must be the same"
            )
        return item

    def _plugins(self) -> dict[str, EntryPoint]:
        found = {}
        for entry_point in entry_points(group=self.entry_point_group):
            if entry_point.dist is not None:
                found[f"{_package(entry_point)}/{entry_point.name}"] = entry_point
        return found


def _package(entry_point: EntryPoint) -> str:
    assert entry_point.dist is not None
    return str(entry_point.dist.name).lower().replace("_", "-")


TASKS: Registry[type[Task[Any]]] = Registry(
    "task",
    "lmmsae_eval.tasks",
    {
        "iou": f"{_OUR_PACKAGE}.tasks.iou:Iou",
        "clip": f"{_OUR_PACKAGE}.tasks.clip:Clip",
        "consistency": f"{_OUR_PACKAGE}.tasks.consistency:Consistency",
        "halluc": f"{_OUR_PACKAGE}.tasks.halluc:Halluc",
        "chair": f"{_OUR_PACKAGE}.tasks.chair:Chair",
        "dissect": f"{_OUR_PACKAGE}.tasks.dissect:Dissect",
        "attr_faithfulness": f"{_OUR_PACKAGE}.tasks.attr_faithfulness:AttrFaithfulness",
        "core": f"{_OUR_PACKAGE}.tasks.core:Core",
        "mono": f"{_OUR_PACKAGE}.tasks.mono:Mono",
        "detect": f"{_OUR_PACKAGE}.tasks.detect:Detect",
        "fuzz": f"{_OUR_PACKAGE}.tasks.fuzz:Fuzz",
    },
)

TESTBEDS: Registry[Any] = Registry(
    "testbed",
    "lmmsae_eval.testbeds",
    {
        "testbed": f"{_OUR_PACKAGE}.testbed.provider:Testbed",
        "testbed:planted": f"{_OUR_PACKAGE}.testbed.planted:PlantedTestbed",
    },
)


def register_task(task: TaskT) -> TaskT:
    """Class decorator: make a task known by its `spec.name` (`package/task` outside of here)."""
    TASKS.register(task.spec.name)(task)
    return task
