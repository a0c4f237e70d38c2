"""Generated source as modules that the rest of Python can find: the package of all of them, ``codegen.generated``.

torch.compile and pickle look a function up as *module, name*. Each text has one module, named after its content; others
see it only once it has run whole. It lives as long as somebody uses what it defines: a long search makes thousands.
"""

from __future__ import annotations

import hashlib
import linecache
import sys
import threading
import weakref
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from weakref import WeakValueDictionary

__path__: list[str] = []  # a package: its modules are found by `_Finder` alone

_lock = threading.RLock()
_modules: WeakValueDictionary[str, ModuleType] = WeakValueDictionary()


def load_source(source: str, stem: str, operators: bool = False) -> ModuleType:
    """The module that generated source makes; the same text gives the same module while that is in use.

    While the module lives, the text is known to `linecache` under a name made from its content, so that tracebacks and
    `inspect.getsource` show the generated lines. Only source that `codegen.rendering.render` wrote is ever given here.

    Args:
        source: the generated text.
        stem: what it is, for names.
        operators: for modules that register PyTorch operators, which cannot be taken back: it stays for good.

    Raises:
        ImportError: where the text imports what is not installed.
    """
    name = module_name(source, stem)
    filename = f"<opnas {name.removeprefix(f'{__name__}.').replace('_', ' ')}>"
    with _lock:
        module = _modules.get(name)
        if module is None:
            module = ModuleType(name, f"Generated source {filename}.")
            module.__file__ = filename
            # Whoever holds a function of the module holds its globals, and so the module, and so its lines.
            module.__dict__["_module"] = module
            linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
            weakref.finalize(module, linecache.cache.pop, filename, None)
            exec(compile(source, filename, "exec"), module.__dict__)
            _modules[name] = module
        if operators:
            sys.modules[name] = module
    return module


def module_name(source: str, stem: str) -> str:
    """Under which name the module of a text can be imported, once it has been loaded."""
    return f"{__name__}.{stem}_{hashlib.sha256(source.encode()).hexdigest()[:16]}"


class _Finder(MetaPathFinder, Loader):
    """Finds generated modules that this process has made, under their names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{__name__}."):
            return None
        if fullname not in _modules:
            raise ModuleNotFoundError(
                f"{fullname} was generated in another process: send the graph or backbone, the whole compiled "
                "attention or model, or its state_dict(), rather than a part of a model",
                name=fullname,
            )
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """It has run."""


sys.meta_path.append(_Finder())
