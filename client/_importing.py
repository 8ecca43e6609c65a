"""Runs an action once a module is imported, without importing it."""

import sys
from collections.abc import Callable, Iterable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


def when_imported(module: str, action: Callable[[], None]) -> None:
    """Run `action` now if `module` is imported already, else right after its import."""
    if module in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _ImportHook(module, action))


class _ImportHook(MetaPathFinder):
    """Finds one module by the other finders, and runs an action after its import.

    Finding the module without importing it, as `importlib.util.find_spec` does, runs nothing.
    """

    def __init__(self, module: str, action: Callable[[], None]) -> None:
        self.module, self.action = module, action
        self.searching = False

    def find_spec(
        self, fullname: str, path: Iterable[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.module or self.searching:
            return None
        # importlib's `find_spec` asks all finders, this one too: answer None to that call.
        self.searching = True
        try:
            spec = find_spec(fullname)
        finally:
            self.searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _ActingLoader(spec.loader, self._after_import)
        return spec

    def _after_import(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self.action()


class _ActingLoader(Loader):
    """Loads a module by its own loader, and then runs an action."""

    def __init__(self, loader: Loader, action: Callable[[], None]) -> None:
        self.loader, self.action = loader, action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Restore the loader first: the module and `importlib.reload` must see their own.
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.action()
