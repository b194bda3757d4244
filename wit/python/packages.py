"""Imports modules before the author's own, so that later builds can go on from here. `_modules` has
their names, by a look at the files. One that fails is left to the author's own import.
"""

import importlib
import sys

sys.dont_write_bytecode = True
# After the standard library, whose numpy is compiled for this runtime.
sys.path.append("/packages")
# A call is a fresh instance: what it imports late, each call imports.
sys.set_lazy_imports_filter(lambda *_names: False)

import numpy

# With pointers of 32 bits, numpy's choice for whole numbers has 32 bits too, and the type `l`. With
# these names, an int32 that is asked for has the type `i`, so that the two can be told apart.
numpy.int32, numpy.uint32 = numpy.intc, numpy.uintc
numpy.sctypeDict.update(int32=numpy.intc, uint32=numpy.uintc)

_name = _package = _last = ""
for _name in _modules.split():
    _package, _, _last = _name.rpartition(".")
    # `from a import b` takes a module `a.b` only if `a` has no `b`.
    if not hasattr(sys.modules.get(_package), _last):
        try:
            importlib.import_module(_name)
        except BaseException:
            pass
# What some of them, and the standard library, would import when they are first used.
_late = {
    "": "encodings.ascii encodings.latin_1 encodings.cp1252 encodings.cp437 encodings.idna encodings.utf_8_sig encodings.utf_16",
    "datetime": "_strptime calendar locale",
    "time": "_strptime calendar locale",
    "uuid": "hashlib",
    "zoneinfo": "importlib.resources tzdata",
    "numpy": "numpy.char numpy.fft numpy.linalg numpy.rec numpy.strings zipfile",
    "pandas": "pandas.core.methods.to_dict pandas.core.reshape.reshape",
}
for _package, _name in _late.items():
    if _package in ("", *sys.modules):
        for _last in _name.split():
            importlib.import_module(_last)
if "narwhals" in sys.modules:
    # It reads the metadata of all packages once.
    importlib.import_module("narwhals.plugins")._discover_entrypoints()
del _late, _modules, _name, _package, _last
