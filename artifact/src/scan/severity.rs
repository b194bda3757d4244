//! How bad a finding is. It orders findings for people, and decides nothing: whatever its severity,
//! a file with a finding is not safe.
//!
//! Executable content has two severities. `high` is what a format needs to work, such as the class
//! of an estimator. `critical` is what attacks look like: system commands, network, files, imports.
//! The names of attacks are on a list, which has holes. A name that is missing there is `high`.

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is not followed.
    Low,
    /// Something breaks the rules of its format.
    Medium,
    /// Code that the format needs, or that its authors commonly write.
    High,
    /// What attacks look like.
    Critical,
}

impl Severity {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// That of the import of a name of Python that is not known to be data.
    pub(super) fn of_import(module: &str, name: &str) -> Self {
        let is_below = |known: &str| {
            let rest = module.strip_prefix(known);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let top = module.split('.').next().unwrap_or(module);
        let is_attack_module = lists(MODULES, top) || PATHS.into_iter().any(is_below);
        let mut parts = name.split('.');
        // A name with dots reaches what other modules have imported, or the parts of a function.
        let last = parts.next_back().unwrap_or(name);
        let is_special = |part: &str| part.starts_with("__");
        let is_attack_name = is_special(last) || lists(NAMES, last);
        if is_attack_module
            || is_attack_name
            || parts.any(|part| is_special(part) || lists(MODULES, part))
        {
            Self::Critical
        } else {
            Self::High
        }
    }

    /// That of a path of Python, such as `os.system`. A word may be a module or a name.
    pub(super) fn of_import_path(path: &str) -> Self {
        let (module, name) = path.rsplit_once(['.', ':']).unwrap_or((path, path));
        Self::of_import(module, name)
    }
}

/// Whether a list with spaces or lines between has a name.
pub(super) fn lists(list: &str, name: &str) -> bool {
    !name.is_empty() && list.split_ascii_whitespace().any(|listed| listed == name)
}

/// Modules, with all below them, that published attacks import, or that reach commands, files,
/// networks and other code.
const MODULES: &str = "\
    _aix_support _ctypes _osx_support _pickle _posixsubprocess _pyrepl _socket _thread _winapi \
    aiohttp asyncio bdb bpython cffi cgitb cloudpickle code codeop commands compileall cPickle \
    cProfile ctypes dill distutils doctest ensurepip fabric fileinput ftplib gc git http httplib \
    httpx idlelib imaplib imp importlib inspect invoke ipykernel IPython jinja2 lib2to3 \
    linecache mako marshal mmap modulefinder msvcrt multiprocessing nntplib nt ntpath os \
    paramiko pathlib2 pdb pexpect pickle pickletools pip pipes pkg_resources pkgutil plumbum \
    popen2 poplib posix posixpath profile psutil pty py_compile pydoc pyrepl requests runpy \
    setuptools sh shelve shlex shutil signal site smtplib socket socketserver sqlite3 ssl \
    subprocess symtable sys sysconfig tarfile telnetlib tempfile threading timeit trace \
    traceback unittest urllib urllib2 urllib3 venv webbrowser win32api win32com winreg wsgiref \
    xmlrpc zipapp zipfile zipimport";

/// The same of modules whose packages hold data, too.
const PATHS: [&str; 25] = [
    "joblib.numpy_pickle",
    "logging.config",
    "mlflow.projects",
    "numpy.distutils",
    "numpy.f2py",
    "numpy.testing",
    "pandas.io",
    "scipy._lib._uarray",
    "tensorflow.io",
    "tensorflow.python.lib.io",
    "test.support",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed",
    "torch.fx.experimental",
    "torch.hub",
    "torch.jit.unsupported_tensor_ops",
    "torch.multiprocessing",
    "torch.package",
    "torch.serialization",
    "torch.testing",
    "torch.utils._config_module",
    "torch.utils.bottleneck",
    "torch.utils.collect_env",
    "torch.utils.cpp_extension",
];

/// Names that do so in any module: built-in functions of Python, and functions that reach
/// attributes, run texts or open files.
const NAMES: &str = "\
    _get_command_stdout apply attrgetter breakpoint chmod CodeType compile delattr eval exec \
    exec_command execfile execv execve FileIO fromfile FunctionType genfromtxt getattr globals \
    input load load_library load_model loadtxt locals memmap methodcaller open open_code popen \
    read_pickle reload remove rmtree run runcode runctx runsource runstring savetxt setattr \
    spawn system tofile unlink urlopen vars write_bytes write_text";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_of_attacks_are_critical_and_those_of_estimators_are_high() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("subprocess", "Popen"),
            ("urllib.request", "urlretrieve"),
            ("builtins", "eval"),
            ("__builtin__", "getattr"),
            ("operator", "attrgetter"),
            ("numpy.testing._private.utils", "runstring"),
            ("torch.serialization", "load"),
            ("torch.utils.collect_env", "run"),
            ("torch.utils._config_module", "ConfigModule.load_config"),
            ("mlflow.projects.backend.local", "_run_entry_point"),
            // Through what a harmless module has imported.
            ("sklearn.utils", "os.system"),
            ("collections", "OrderedDict.__init__.__globals__"),
            ("sklearn.base", "BaseEstimator.__reduce__"),
            ("importlib", ""),
        ] {
            let severity = Severity::of_import(module, name);
            assert_eq!(severity, Severity::Critical, "{module}.{name}");
        }
        for (module, name) in [
            ("sklearn.linear_model._logistic", "LogisticRegression"),
            ("xgboost.core", "Booster"),
            ("builtins", "slice"),
            ("functools", "partial"),
            ("torch._utils", "_rebuild_sparse_tensor"),
            ("torch.utils.data", "Subset"),
            ("mlflow.sklearn", "Model"),
            ("oslo.config", "Option"),
            ("__", ""),
            ("", ""),
        ] {
            assert_eq!(
                Severity::of_import(module, name),
                Severity::High,
                "{module}.{name}"
            );
        }
        assert_eq!(Severity::of_import_path("os.system"), Severity::Critical);
        assert_eq!(Severity::of_import_path("os:system"), Severity::Critical);
        assert_eq!(Severity::of_import_path("os"), Severity::Critical);
        assert_eq!(Severity::of_import_path("system"), Severity::Critical);
        assert_eq!(Severity::of_import_path("auto_map"), Severity::High);
        assert_eq!(Severity::of_import_path("a.b.Model"), Severity::High);
        assert!(Severity::High < Severity::Critical);
    }
}
