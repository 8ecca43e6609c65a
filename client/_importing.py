"""Run something once a module is there, without importing it."""

import sys
from collections.abc import Callable, Iterable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


def when_imported(module: str, action: Callable[[], None]) -> None:
    """Run `action` now if `module` is imported, else right after somebody imports it."""
    if module in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _Watcher(module, action))


class _Watcher(MetaPathFinder):
    """Finds one module as others would, and runs an action once it is loaded.

    Looking for the module without loading it, as `importlib.util.find_spec` does, changes nothing.
    """

    def __init__(self, module: str, action: Callable[[], None]) -> None:
        self.module, self.action = module, action
        self.looking = False

    def find_spec(
        self, fullname: str, path: Iterable[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.module or self.looking:
            return None
        self.looking = True  # the others are asked by the same way, and we must not answer there
        try:
            spec = find_spec(fullname)
        finally:
            self.looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _ActingLoader(spec.loader, self._loaded)
        return spec

    def _loaded(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self.action()


class _ActingLoader(Loader):
    def __init__(self, loader: Loader, action: Callable[[], None]) -> None:
        self.loader, self.action = loader, action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.action()
