"""What import-linter does not bring: a contract of its own kind. It is not part of the image."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from importlinter import Contract, ContractCheck, fields, output

if TYPE_CHECKING:
    from grimp import ImportGraph


class StandardLibraryOnly(Contract):
    """Modules that import nothing but Python's own."""

    modules = fields.SetField(subfield=fields.ModuleField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 (the library's)
        """Look at what each imports directly."""
        found = {
            module.name: sorted(
                name
                for name in graph.find_modules_directly_imported_by(module.name)
                if name.partition(".")[0] not in sys.stdlib_module_names
            )
            for module in self.modules
        }
        broken = {name: imported for name, imported in found.items() if imported}
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Say what imports what."""
        for name, imported in check.metadata["broken"].items():
            output.print_error(f"{name} imports {', '.join(imported)}")
